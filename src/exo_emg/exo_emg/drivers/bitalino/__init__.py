"""BITalino (r)evolution over its serial port."""
