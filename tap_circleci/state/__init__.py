"""The state that one run keeps for the next."""
