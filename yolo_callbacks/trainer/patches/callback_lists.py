"""Lets a callback remove itself without skipping the next one.

Changed: the lists in `trainer.callbacks`.
Why: Ultralytics iterates over the same list that a callback removes itself from, and so skips the next one.
Undone: never; the lists belong to this trainer only and otherwise behave like lists.
Needed in: every supported version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import is_not
from typing import Any


class SnapshotList(list[Any]):
    """A list that may change during iteration: nothing is skipped, and new items come last.

    Attributes:
        at_end: Called when an iteration ends, even with an exception; nested iterations do not count.
    """

    at_end: Callable[[], None] | None = None
    _iterations = 0

    def __iter__(self) -> Iterator[Any]:
        if self.at_end is not None:
            return self._to_the_end()
        return self._snapshot() if self else iter(())  # Ultralytics iterates over two lists per batch, mostly empty

    def _snapshot(self) -> Iterator[Any]:
        before = self[:]
        for item in before:
            if item in self:
                yield item
        now = self[:]
        if len(now) != len(before) or any(map(is_not, now, before)):
            yield from [item for item in now if all(item is not old for old in before)]

    def _to_the_end(self) -> Iterator[Any]:
        self._iterations += 1
        try:
            yield from self._snapshot()
        finally:
            self._iterations -= 1
            if self.at_end is not None and not self._iterations:
                self.at_end()


def protect_callback_lists(trainer: Any, at_end: Mapping[str, Callable[[], None]]) -> None:
    """Call every callback of a trainer, even if one before it removes itself. Idempotent.

    Args:
        trainer: The trainer.
        at_end: By event, a function to call after all its callbacks.
    """
    for event, functions in list(trainer.callbacks.items()):
        if not isinstance(functions, SnapshotList):
            trainer.callbacks[event] = SnapshotList(functions)
    for event, function in at_end.items():
        if isinstance(functions := trainer.callbacks[event], SnapshotList):
            functions.at_end = function
