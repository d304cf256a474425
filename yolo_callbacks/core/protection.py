"""What Ultralytics writes itself, made to survive. Used by `core/run.py` alone.

Its trainer writes `last.pt` and `best.pt` over the old ones in place, so a process that dies in that instant leaves a
file that does not load, and an error of the disk, there or in `results.csv`, ends the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Write = Callable[[Path, bytes], Any]


class CheckpointPath(type(Path())):  # type: ignore[misc]  # Path itself cannot be subclassed before Python 3.12
    """The path of a checkpoint that leaves to a function how its bytes are written."""

    write: Write | None = None

    def write_bytes(self, data: Any) -> int:
        """Write the checkpoint."""
        if self.write is None:  # a path made from this one
            return int(super().write_bytes(data))
        self.write(Path(self), data)
        return len(data)


def checkpoint_path(path: Path, write: Write) -> CheckpointPath:
    """Return the same path, written to by `write`."""
    protected = CheckpointPath(path)
    protected.write = write
    return protected


class SteadyList(list[Any]):
    """A list whose iteration does not notice changes.

    Ultralytics iterates over the very list that a callback is removed from when it removes itself, and so skips the
    one after it.
    """

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])


class NothingLeft(Exception):
    """Leaves the training loop of a run that had ended before; never seen outside."""


def go_straight_to_the_end(trainer: Any) -> None:
    """Let a resumed run that turns out to have ended do what is left: the final evaluation, and all that follows.

    A process may die after the last epoch, while Ultralytics strips and evaluates. It has no way to take that up: it
    refuses a run whose planned epochs are done, and trains one more epoch of one that was stopped. Has to be called
    before the training begins; `NothingLeft` raised from on_train_epoch_start then skips the loop.
    """
    train, resume = trainer._do_train, trainer.resume_training

    def resume_training(checkpoint: Any) -> None:
        try:
            resume(checkpoint)
        except AssertionError:
            done = (checkpoint or {}).get("epoch", -1) + 1
            if not done or done < trainer.epochs:  # a stripped checkpoint is finished and knows no epoch
                raise
            trainer._load_checkpoint_state(checkpoint)
            trainer.start_epoch = done

    def do_train() -> None:
        try:
            train()
        except NothingLeft:
            trainer.epoch = trainer.start_epoch - 1
            trainer.final_eval()
            if trainer.args.plots:
                trainer.plot_metrics()
            trainer.run_callbacks("on_train_end")

    trainer._do_train, trainer.resume_training = do_train, resume_training
