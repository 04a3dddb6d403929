"""Percentiles, which SQLite has not."""

from __future__ import annotations

from collections.abc import Iterable


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value below which that share of the values lies, interpolated; None without values."""
    ranked = sorted(values)
    if not ranked:
        return None
    low, part = divmod(share * (len(ranked) - 1), 1)
    high = min(int(low) + 1, len(ranked) - 1)
    return ranked[int(low)] + part * (ranked[high] - ranked[int(low)])
