"""Moments, texts, names and slugs: values without a connection."""
