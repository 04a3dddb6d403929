"""The demo of make run: a sync of a CircleCI of our own into a real target."""
