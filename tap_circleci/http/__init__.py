"""HTTP without knowledge of streams: one exchange, its pace, its headers."""
