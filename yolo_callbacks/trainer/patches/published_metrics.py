"""Numbers that others see among a trainer's metrics for a moment. Used by `run.py` alone.

Ultralytics' integrations read `trainer.metrics` at the end of an epoch. The same dict becomes a row of `results.csv`,
whose columns are fixed by the first one, and a part of `last.pt`, and without validation it stays from epoch to epoch:
what is added to it has to go again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


class Loan:
    """What is lent to `trainer.metrics`, and taken back.

    The dict stays the same object, so that what other functions change in it stays changed. A name that is lent is
    taken back whatever became of its value, and also out of a dict that somebody has made from this one.

    Args:
        trainer: The trainer.

    Example:
        >>> from types import SimpleNamespace
        >>> trainer = SimpleNamespace(metrics={"metrics/recall(B)": 0.5})
        >>> loan = Loan(trainer)
        >>> loan.lend({"custom/lr_factor": 0.1, "metrics/recall(B)": 1.0})
        ('metrics/recall(B)',)
        >>> trainer.metrics
        {'metrics/recall(B)': 0.5, 'custom/lr_factor': 0.1}
        >>> loan.take_back()
        >>> trainer.metrics
        {'metrics/recall(B)': 0.5}
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._lent: dict[str, float] = {}
        self._to: Any = None

    def lend(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Add numbers, but for those whose name is taken; return the names that are."""
        metrics = self._trainer.metrics
        if self._to is not metrics:
            self.take_back()
        taken = tuple(name for name in values if name in metrics)
        new = {name: value for name, value in values.items() if name not in taken}
        self._to = metrics
        self._lent.update(new)
        metrics.update(new)
        return taken

    def take_back(self) -> None:
        """Take out what was added, as if it had never been there."""
        if not self._lent:
            return
        for metrics in (self._to, self._trainer.metrics):
            if isinstance(metrics, dict):
                for name in self._lent:
                    metrics.pop(name, None)
        self._to, self._lent = None, {}

    def release(self) -> None:
        """Take back what is lent, and let go of the trainer."""
        self.take_back()
        self._trainer = self._to = None

    @contextlib.contextmanager
    def taken_back(self) -> Iterator[None]:
        """Take back for as long as something is done that must not see it."""
        lent = self._lent
        self.take_back()
        try:
            yield
        finally:
            if lent:
                self.lend(lent)
