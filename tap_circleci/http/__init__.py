"""HTTP, knowing nothing of streams: one exchange, its pace, its headers."""
