"""Numbers in JSON: not every float has a spelling in it."""

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


def decode_number(value: Any) -> Any:
    """Read back a number that may have been spelt as a string."""
    return float(value) if isinstance(value, str) else value
