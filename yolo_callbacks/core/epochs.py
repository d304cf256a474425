"""Lengths in epochs: a whole number of them, or a share of the planned ones."""

from __future__ import annotations

import math
from typing import Union

from yolo_callbacks.support.checks import check_int, check_number
from yolo_callbacks.support.numbers import plain

Epochs = Union[int, float]
"""A number of epochs, or a share of the planned epochs in (0, 1)."""


def check_epochs(name: str, value: object, *, minimum: int = 1) -> Epochs:
    """Return `value` if it is a number of epochs >= `minimum` or a share of the planned epochs in (0, 1).

    Raises:
        TypeError: If it is neither an int nor a float.
        ValueError: If it is out of range.
    """
    if isinstance(plain(value), float):
        return check_number(name, value, minimum=0.0, maximum=1.0, exclusive=True)
    return check_int(name, value, minimum=minimum)


def in_epochs(length: Epochs, planned_epochs: int) -> int:
    """Return how many epochs a length is, in a run of so many planned epochs. A share is at least one.

    Example:
        >>> in_epochs(0.07, 100), in_epochs(7, 100)  # 0.07 * 100 is slightly more than 7
        (7, 7)
    """
    return max(1, math.ceil(round(length * planned_epochs, 9))) if isinstance(length, float) else length
