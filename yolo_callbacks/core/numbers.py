"""Numbers in JSON and in words: not every float has a spelling in JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def encode_number(value: Any) -> Any:
    """Spell NaN and infinity as strings, since strict JSON has no number for them; look into mappings too."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: encode_number(item) for key, item in value.items()}
    return value


def all_finite(tensors: Iterable[Any]) -> bool:
    """Return whether no number in these tensors is NaN or infinite; whatever is no tensor is passed over."""
    return all(bool(item.isfinite().all()) for item in tensors if hasattr(item, "isfinite"))


def duration(seconds: float) -> str:
    """Say how long something took.

    Example:
        >>> duration(42.3), duration(3900), duration(200_000)
        ('42 s', '1 h 5 min', '55 h 33 min')
    """
    minutes = int(seconds // 60)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def decode_number(value: Any) -> Any:
    """Read back a number that may have been spelt as a string."""
    return float(value) if isinstance(value, str) else value
