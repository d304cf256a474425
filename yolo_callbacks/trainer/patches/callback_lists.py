"""Lets a callback remove itself without the next one being skipped.

Changed: the lists in `trainer.callbacks`.
Why: Ultralytics iterates over the very list that a callback is removed from, and so skips the one after it.
Undone: never; the lists belong to this trainer alone and behave like lists otherwise.
Needed in: every version that is supported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class SnapshotList(list[Any]):
    """A list that may change while it is iterated over: nothing is skipped, and what is added comes last.

    Attributes:
        at_end: Called when an iteration has ended, also with an exception; a nested iteration does not count.
    """

    at_end: Callable[[], None] | None = None
    _iterations = 0

    def __iter__(self) -> Iterator[Any]:
        before = self[:]
        self._iterations += 1
        try:
            yield from (item for item in before if item in self[:])
            yield from [item for item in self[:] if all(item is not old for old in before)]
        finally:
            self._iterations -= 1
            if self.at_end is not None and not self._iterations:
                self.at_end()


def protect_callback_lists(trainer: Any, at_end: Mapping[str, Callable[[], None]]) -> None:
    """Call every callback of a trainer, even if one before it removes itself. Idempotent.

    Args:
        trainer: The trainer.
        at_end: What to call when all callbacks of an event have been called.
    """
    for event, functions in list(trainer.callbacks.items()):
        if not isinstance(functions, SnapshotList):
            trainer.callbacks[event] = SnapshotList(functions)
    for event, function in at_end.items():
        if isinstance(functions := trainer.callbacks[event], SnapshotList):
            functions.at_end = function
