"""Makes `model.train()` load a checkpoint that other processes have written.

Changed: `trainer.best`, in the process that launches one worker per GPU and waits for them.
Why: that process then loads `best.pt`, even if a callback in a worker has chosen another checkpoint.
Undone: never; the trainer is dropped when `model.train()` returns.
Needed in: every supported version.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class _ResultPath(type(Path())):  # type: ignore[misc]  # Path itself cannot be subclassed before Python 3.12
    """The path of `best.pt`; calls `look` when asked whether it exists."""

    look: Callable[[], Path | None] | None = None

    def exists(self, *args: Any, **kwargs: Any) -> bool:
        """Look for another checkpoint, and return whether it exists, or else this path."""
        other = self.look() if self.look is not None else None
        return bool(super().exists(*args, **kwargs) if other is None else other.exists())


def return_checkpoint_of_workers(trainer: Any, find: Callable[[], Path | None]) -> None:
    """Make `model.train()` load another checkpoint than `best.pt`, one that is known only after the training.

    The launching process first asks whether `best.pt` exists once its workers have trained.

    Args:
        trainer: The trainer of the launching process.
        find: Returns the checkpoint; None for `best.pt`.
    """
    best = trainer.best

    def look() -> Path | None:
        other = find()
        trainer.best = other or best
        return other

    trainer.best = _ResultPath(best)
    trainer.best.look = look
