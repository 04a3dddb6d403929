"""The output: messages on stdout, the log on stderr."""
