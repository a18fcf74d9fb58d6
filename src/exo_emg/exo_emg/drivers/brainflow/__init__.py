"""Every board that BrainFlow knows, its synthetic board included."""
