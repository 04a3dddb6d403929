"""From an endpoint to its rows."""
