"""How fast, how large, how many calls: measurements of the tap against our own CircleCI. Nothing here is a test."""
