"""Watch: observes a training until it is removed or fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from yolo_callbacks.support.background import tell_once


class Watch:
    """Observes a training until it is removed; an error is logged and removes it.

    Attributes:
        active: Whether it has not been removed.
    """

    def __init__(self, who: str, every: int, begin: Callable[[], None] | None) -> None:
        self.active = True
        self._who = who
        self._every = every
        self._begin = begin

    def begin_epoch(self) -> None:
        """Begin an epoch, or a repeated one."""
        if self.active and self._begin is not None:
            with self.guarded():
                self._begin()

    def remove(self) -> None:
        """Stop watching. May be called again."""
        self.active = False

    def due(self, number: int) -> bool:
        """Return whether the step or batch of this number in its epoch is sampled; the first always is."""
        return self.active and (number - 1) % self._every == 0

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Log an error in the block instead of raising it, and remove the watch."""
        try:
            yield
        except Exception as error:
            self.remove()
            tell_once(set(), self._who, error)
