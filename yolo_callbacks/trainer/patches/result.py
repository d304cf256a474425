"""Makes `model.train()` return with a checkpoint that other processes have written.

Changed: `trainer.best`, in the process that launches one worker per GPU and waits for them.
Why: that process then loads `best.pt`, also where a callback in a worker has chosen another checkpoint.
Undone: never; the trainer is dropped when `model.train()` returns.
Needed in: every version that is supported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class _ResultPath(type(Path())):  # type: ignore[misc]  # Path itself cannot be subclassed before Python 3.12
    """The path of `best.pt`, which looks for another checkpoint when somebody asks whether it exists."""

    look: Callable[[], None] | None = None

    def exists(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether it exists."""
        if self.look is not None:
            self.look()
        return bool(super().exists(*args, **kwargs))


def return_checkpoint_of_workers(trainer: Any, find: Callable[[], Path | None]) -> None:
    """Let `model.train()` return with another checkpoint than `best.pt`, which is found only after the training.

    The first that a launching process does after its workers have trained is to ask whether `best.pt` exists.

    Args:
        trainer: The trainer of the launching process.
        find: Returns the checkpoint; None for `best.pt`.
    """
    best = trainer.best

    def look() -> None:
        trainer.best = find() or best

    trainer.best = _ResultPath(best)
    trainer.best.look = look
