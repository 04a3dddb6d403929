"""What leaves the tap: messages on stdout, words on stderr."""
