"""A recording as a driver."""
