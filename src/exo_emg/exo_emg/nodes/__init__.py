"""The nodes of exo_emg."""
