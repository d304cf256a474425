"""Numbers of epochs: whole, or as a share of the planned epochs; and in words."""

from __future__ import annotations

import math
from typing import Union

from yolo_callbacks.support.checks import check_int, check_number, quoted
from yolo_callbacks.support.numbers import plain

Epochs = Union[int, float]
"""A number of epochs (int), or a share of the planned epochs (float in (0, 1))."""


def check_epochs(name: str, value: object, *, minimum: int = 1) -> Epochs:
    """Return `value` if it is a number of epochs >= `minimum` or a share of the planned epochs in (0, 1).

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range.
    """
    if isinstance(plain(value), float):
        return check_number(name, value, minimum=0.0, maximum=1.0, exclusive=True)
    return check_int(name, value, minimum=minimum)


def check_patience(value: object, words: tuple[str, ...] = ()) -> Epochs:
    """Return `value` if it is a number of epochs >= 1 or a share of the planned epochs in (0, 1).

    Args:
        value: The patience.
        words: Words that the caller accepts as well; only the message names them.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range. 0 is refused because it means "stop at once" to Keras and "never" to
            Ultralytics.
    """
    if isinstance(value, str):
        others = "".join(f", or '{word}'" for word in words)
        raise TypeError(
            f"patience={quoted(value)} must be a whole number of epochs >= 1, a share of the planned epochs in "
            f"(0, 1){others}"
        )
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        raise ValueError(
            "patience=0 means 'stop at once' to Keras and 'never stop' to Ultralytics: set patience=1, or leave out "
            "the callback"
        )
    return check_epochs("patience", value)


def in_epochs(length: Epochs, planned_epochs: int) -> int:
    """Return a length in epochs. A share of the planned epochs is rounded up.

    Example:
        >>> in_epochs(0.07, 100), in_epochs(7, 100)  # 0.07 * 100 is slightly more than 7
        (7, 7)
    """
    return max(1, math.ceil(round(length * planned_epochs, 9))) if isinstance(length, float) else length


def is_due(epoch: int, every: int, planned_epochs: int) -> bool:
    """Return whether something is due that is done in the first epoch, in every Nth, and in the last planned one.

    Example:
        >>> [epoch for epoch in range(1, 13) if is_due(epoch, 5, planned_epochs=12)]
        [1, 5, 10, 12]
    """
    return epoch == 1 or epoch % every == 0 or epoch == planned_epochs


def epochs_in_words(number: int) -> str:
    """Return a number of epochs for a sentence.

    Example:
        >>> epochs_in_words(1), epochs_in_words(2)
        ('1 epoch', '2 epochs')
    """
    return f"{number} epoch" if number == 1 else f"{number} epochs"


def completed_in_words(number: int) -> str:
    """Return a sentence for a run that trained all its planned epochs.

    Example:
        >>> completed_in_words(1), completed_in_words(50)
        ('completed 1 epoch', 'completed all 50 epochs')
    """
    return f"completed {'' if number == 1 else 'all '}{epochs_in_words(number)}"
