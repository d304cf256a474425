"""Numbers: NumPy's as Python's own, NaN and infinity in JSON, and durations in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Return a NumPy or PyTorch scalar as a Python number, and anything else unchanged.

    Example:
        >>> import numpy as np
        >>> plain(np.int64(5)), plain(np.bool_(True)), plain("five")
        (5, True, 'five')
    """
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def encode_number(value: Any) -> Any:
    """Return NaN and infinity as strings, since strict JSON has no numbers for them; convert mappings recursively."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: encode_number(item) for key, item in value.items()}
    return value


def finite_or_none(value: float) -> float | None:
    """Return a number, or None for NaN and infinity, which strict JSON cannot hold.

    Example:
        >>> finite_or_none(0.5), finite_or_none(float("nan"))
        (0.5, None)
    """
    return value if math.isfinite(value) else None


def all_finite(tensors: Iterable[Any]) -> bool:
    """Return whether every number in these tensors is finite; ignore whatever is not a tensor."""
    return all(bool(item.isfinite().all()) for item in tensors if hasattr(item, "isfinite"))


def duration(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> duration(42.3), duration(3900), duration(200_000)
        ('42 s', '1 h 5 min', '55 h 33 min')
    """
    minutes = int(seconds // 60)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def decode_number(value: Any) -> Any:
    """Return a number that `encode_number` may have made a string."""
    return float(value) if isinstance(value, str) else value
