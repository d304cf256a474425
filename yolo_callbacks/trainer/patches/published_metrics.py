"""Shows callbacks' numbers to Ultralytics' integrations during one event.

Changed: `trainer.metrics`, from on_fit_epoch_end to the end of that event.
Why: the integrations read the metrics of an epoch there, and there is no other way to send a number through them. The
same dict becomes a row of `results.csv`, whose columns are fixed by the first row, and a part of `last.pt`; without
validation it is reused in the next epoch. So whatever was added must be removed again.
Undone: by `PublishedMetrics.remove`.
Needed in: every supported version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


class PublishedMetrics:
    """Numbers that are added to `trainer.metrics` temporarily.

    The dict is the same object throughout, so that changes by other functions persist. An added name is removed even if
    its value has changed, and also from a copy of the dict that somebody has put in its place.

    Args:
        trainer: The trainer.

    Example:
        >>> from types import SimpleNamespace
        >>> trainer = SimpleNamespace(metrics={"metrics/recall(B)": 0.5})
        >>> published = PublishedMetrics(trainer)
        >>> published.add({"custom/lr_factor": 0.1, "metrics/recall(B)": 1.0})
        ('metrics/recall(B)',)
        >>> trainer.metrics
        {'metrics/recall(B)': 0.5, 'custom/lr_factor': 0.1}
        >>> published.remove()
        >>> trainer.metrics
        {'metrics/recall(B)': 0.5}
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._added: dict[str, float] = {}
        self._metrics: Any = None

    def add(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Add the numbers whose names are free; return the names that are taken."""
        metrics = self._trainer.metrics
        if self._metrics is not metrics:
            self.remove()
        taken = tuple(name for name in values if name in metrics)
        new = {name: value for name, value in values.items() if name not in taken}
        self._metrics = metrics
        self._added.update(new)
        metrics.update(new)
        return taken

    def remove(self) -> None:
        """Remove what was added."""
        if not self._added:
            return
        for metrics in (self._metrics, self._trainer.metrics):
            if isinstance(metrics, dict):
                for name in self._added:
                    metrics.pop(name, None)
        self._metrics, self._added = None, {}

    def release(self) -> None:
        """Remove what was added, and let go of the trainer."""
        self.remove()
        self._trainer = self._metrics = None

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Remove the numbers during a `with` block."""
        added = self._added
        self.remove()
        try:
            yield
        finally:
            if added:
                self.add(added)
