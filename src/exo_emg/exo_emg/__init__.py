"""Muscle signals to calibrated envelopes."""
