"""What is replayed: rules, each a named list of callbacks."""

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
"""The patiences to compare by default."""

Rules = Union[Mapping[str, Union[Callbacks, Callback]], Callbacks, Callback]
"""Rules by name, or a single one: a callback, or what `attach` takes."""


@dataclass(frozen=True)
class Rule:
    """A named list of callbacks.

    Attributes:
        name: Its name.
        callbacks: The callbacks by label, in order of their priority.
    """

    name: str
    callbacks: Mapping[str, Callback]

    def check(self, metrics: Iterable[str]) -> None:
        """Check that a run has the metrics that the deciding callbacks need.

        Raises:
            UnknownMetricError: If one is missing.
        """
        names = dict.fromkeys(metrics)
        for callback in self.callbacks.values():
            for name in callback.needs() if callback.critical else ():
                keys_of(name, names)


def rules_of(rules: Rules) -> list[Rule]:
    """Return the requested rules; for None, those of `PATIENCES`.

    Raises:
        TypeError: If it is neither callbacks nor a mapping of them.
        ValueError: If callbacks conflict, or there is no rule.
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
        ValueError: If one of them is not a valid patience.

    Example:
        >>> patience_rules("20, 0.3")
        {'patience 20': [EarlyStopping(... patience=20, ...)], 'patience 0.3': [EarlyStopping(... patience=0.3, ...)]}
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    return {f"patience {word}": [_stopping(word)] for word in words}


def _stopping(word: str) -> EarlyStopping:
    patience: Any = word  # EarlyStopping has the error message
    with contextlib.suppress(ValueError):
        patience = float(word) if "." in word else int(word)
    try:
        return EarlyStopping(patience=patience)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _in_order(callbacks: Callbacks | Callback) -> dict[str, Callback]:
    listed = resolve([callbacks] if isinstance(callbacks, Callback) else callbacks)
    return label(sorted(listed, key=lambda callback: callback.priority))
