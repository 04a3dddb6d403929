"""What one run leaves to the next."""
