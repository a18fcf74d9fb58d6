"""The safety envelope, its state machine and the supervisor."""
