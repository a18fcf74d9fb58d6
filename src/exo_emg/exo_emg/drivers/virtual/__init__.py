"""The virtual wearer's muscles as a driver."""
