"""The nodes of exo_capture."""
