"""The nodes of exo_twin."""
