"""Numbers and spans of time as short text for people."""

from __future__ import annotations

from typing import Any


def number(value: Any) -> str:
    """Return a short text for a number: 1,234,567, 12.3, 0.0012; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """Return "42 s", "3:05" (minutes) or "2:03:05" (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
