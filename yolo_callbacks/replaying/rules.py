"""What is replayed: line-ups of callbacks, each under a name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.callbacks.early_stopping import EarlyStopping
from yolo_callbacks.choosing import Callbacks, resolve
from yolo_callbacks.core.lineup import label
from yolo_callbacks.core.metrics import keys_of

PATIENCES = "10,20,50,100,0.3,auto"
"""What is compared where nothing is said."""

Rules = Union[Mapping[str, Union[Callbacks, Callback]], Callbacks, Callback]
"""Line-ups by name, or a single one: a callback, or what `attach` takes."""


@dataclass(frozen=True)
class Rule:
    """A line-up of callbacks.

    Attributes:
        name: What to call it.
        callbacks: The callbacks by label, in order of their priority.
    """

    name: str
    callbacks: Mapping[str, Callback]

    def check(self, metrics: Iterable[str]) -> None:
        """Make sure that a run has what the callbacks that decide look at.

        Raises:
            UnknownMetricError: If it has not.
        """
        names = dict.fromkeys(metrics)
        for callback in self.callbacks.values():
            for name in callback.needs() if callback.critical else ():
                keys_of(name, names)


def rules_of(rules: Rules) -> list[Rule]:
    """Return the rules that were meant; of None, those of `PATIENCES`.

    Raises:
        TypeError: If it is neither callbacks nor a mapping of them.
        ValueError: If callbacks do not go together, or there is no rule.
    """
    if rules is None:
        rules = patience_rules(PATIENCES)
    if not isinstance(rules, Mapping):
        name = Path(rules).name if isinstance(rules, (str, os.PathLike)) else "callbacks"
        rules = {name: rules}
    if not rules:
        raise ValueError("there is no rule to replay")
    return [Rule(str(name), _in_order(callbacks)) for name, callbacks in rules.items()]


def patience_rules(text: str) -> dict[str, list[Callback]]:
    """Return a rule for each patience in a list such as `"10,50,0.3,auto"`.

    Raises:
        ValueError: If one of them can be no patience.

    Example:
        >>> patience_rules("20, 0.3")
        {'patience 20': [EarlyStopping(... patience=20, ...)], 'patience 0.3': [EarlyStopping(... patience=0.3, ...)]}
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    return {f"patience {word}": [_stopping(word)] for word in words}


def _stopping(word: str) -> EarlyStopping:
    patience: Any = word  # EarlyStopping knows what to say of a word
    with contextlib.suppress(ValueError):
        patience = float(word) if "." in word else int(word)
    try:
        return EarlyStopping(patience=patience)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _in_order(callbacks: Callbacks | Callback) -> dict[str, Callback]:
    listed = resolve([callbacks] if isinstance(callbacks, Callback) else callbacks)
    return label(sorted(listed, key=lambda callback: callback.priority))
