"""Our tap side by side with the other two Singer taps for CircleCI, on the same world."""
