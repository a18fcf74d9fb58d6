"""The forward twin: the wearer simulated."""
