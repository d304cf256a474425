"""Makes the files that Ultralytics writes survive a kill and a failing disk.

Changed: `trainer.last`, `trainer.best` and `trainer.wdir`; `validate`, `save_metrics`, `save_model`, `final_eval` and
`plot_metrics` of this trainer.
Why: Ultralytics writes `last.pt`, `best.pt` and the checkpoints of `save_period` in place, so a kill in that instant
leaves a file that does not load. A disk error, there or in `results.csv`, ends the training.
Undone: by the function that `protect_files` returns.
Needed in: every supported version.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage
from yolo_callbacks.support.best_effort import BestEffortWrites
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.epoch_clock import MEASURE, SAVE, VALIDATION
from yolo_callbacks.trainer.patches.published_metrics import PublishedMetrics

Write = Callable[[Path, bytes], Any]


class CheckpointPath(type(Path())):  # type: ignore[misc]  # Path itself cannot be subclassed before Python 3.12
    """The path of a checkpoint whose bytes are written by a function."""

    write: Write | None = None

    def write_bytes(self, data: Any) -> int:
        """Write the checkpoint."""
        if self.write is None:  # a path derived from this one
            return int(super().write_bytes(data))
        self.write(Path(self), data)
        return len(data)


class CheckpointFolder(type(Path())):  # type: ignore[misc]  # as above
    """A folder, and what writes the checkpoints in it."""

    write: Write | None = None

    def __truediv__(self, name: Any) -> Any:
        """Return the path of a checkpoint in this folder."""
        return Path(self) / name if self.write is None else checkpoint_path(Path(self) / name, self.write)


def checkpoint_path(path: Path, write: Write) -> CheckpointPath:
    """Return a copy of a path whose bytes `write` writes."""
    protected = CheckpointPath(path)
    protected.write = write
    return protected


def protect_files(
    trainer: Any,
    before_save: Callable[[], None],
    after_save: Callable[[bytes, bool], None],
    validated: Callable[[], None],
    may_strip: Callable[[], bool],
    published: PublishedMetrics,
    during: Callable[[str], AbstractContextManager[None]] = lambda part: nullcontext(),
) -> Callable[[], None]:
    """Make a trainer's files survive a kill and a failing disk.

    Args:
        trainer: The trainer.
        before_save: Called before `last.pt` is replaced.
        after_save: Called afterwards with the checkpoint's bytes and whether `last.pt` has them.
        validated: Called after each validation of an epoch.
        may_strip: Called before `last.pt` and `best.pt` are stripped at the end; returns whether they may be.
        published: Numbers among the trainer's metrics that do not belong in a checkpoint.
        during: Called with `"validation"`, `"save"`, or, within a save, `"measure"`; what it returns is entered
            meanwhile.

    Returns:
        A function that undoes it.
    """
    writes, folder = BestEffortWrites(), Path(trainer.save_dir)
    names = ("validate", "save_metrics", "save_model", "final_eval", "plot_metrics")
    own_attributes = {name: vars(trainer)[name] for name in names if name in vars(trainer)}
    own = {name: getattr(trainer, name) for name in names}

    def write_last(path: Path, data: bytes) -> None:
        with during(MEASURE):
            before_save()
        after_save(data, writes.replace(path, data))

    def attempt(name: str, what: Path, consequence: str, args: Any, kwargs: Any, failed: Any = None) -> Any:
        """Call a method of the trainer; it may be overridden and take more arguments than Ultralytics' own."""
        with writes.attempt(str(what), consequence, within=folder):
            return own[name](*args, **kwargs)
        return failed

    @wraps(own["validate"])
    def validate(*args: Any, **kwargs: Any) -> Any:
        with during(VALIDATION):
            result = own["validate"](*args, **kwargs)
        validated()
        return result

    def save_metrics(*args: Any, **kwargs: Any) -> Any:
        size, failed = storage.size(trainer.csv), object()
        result = attempt("save_metrics", trainer.csv, "its rows are in the journal", args, kwargs, failed)
        if result is failed:
            storage.cut_back(trainer.csv, size)  # half a row would corrupt the next one
            return None
        return result

    def save_model(*args: Any, **kwargs: Any) -> Any:
        with during(SAVE), published.hidden():
            return attempt("save_model", trainer.wdir, "no checkpoint is saved", args, kwargs, failed=False)

    def plot_metrics(*args: Any, **kwargs: Any) -> Any:
        return attempt("plot_metrics", folder / "results.png", "the plot is skipped", args, kwargs)

    def final_eval(*args: Any, **kwargs: Any) -> Any:
        if may_strip() or trainer.world_size > 1:  # all ranks must take part
            return own["final_eval"](*args, **kwargs)
        LOGGER.warning(f"{trainer.best} is neither stripped nor evaluated again, because a failure could destroy it")
        return None

    trainer.last = checkpoint_path(trainer.last, write_last)
    trainer.best = checkpoint_path(trainer.best, writes.replace)
    trainer.wdir = CheckpointFolder(trainer.wdir)
    trainer.wdir.write = writes.replace
    trainer.validate, trainer.save_metrics, trainer.save_model = validate, save_metrics, save_model
    trainer.final_eval, trainer.plot_metrics = final_eval, plot_metrics

    def undo() -> None:
        trainer.last, trainer.best, trainer.wdir = map(Path, (trainer.last, trainer.best, trainer.wdir))
        for name in own:
            vars(trainer).pop(name, None)
        vars(trainer).update(own_attributes)

    return undo
