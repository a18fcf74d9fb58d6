"""From intent to assistance: the policy."""
