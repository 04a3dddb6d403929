"""The usage exports: ordered, awaited, read."""
