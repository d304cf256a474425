"""What Ultralytics writes itself, made to survive. Used by `run.py` alone.

Its trainer writes `last.pt` and `best.pt` over the old ones in place, so a process that dies in that instant leaves a
file that does not load, and an error of the disk, there or in `results.csv`, ends the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage
from yolo_callbacks.support.best_effort import BestEffortWrites
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.patches.published_metrics import Loan
from yolo_callbacks.trainer.versions import ultralytics_is_at_least

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


def protect_files(
    trainer: Any,
    before_save: Callable[[], None],
    after_save: Callable[[bytes, bool], None],
    validated: Callable[[], None],
    may_strip: Callable[[], bool],
    loan: Loan,
) -> Callable[[], None]:
    """Make what a trainer writes survive a kill and a disk that fails.

    Args:
        trainer: The trainer.
        before_save: Called when `last.pt` is about to be put in its place.
        after_save: Called then with the checkpoint's bytes, and whether they are in `last.pt`.
        validated: Called when an epoch was validated.
        may_strip: Called when `last.pt` and `best.pt` are about to be written over at the end; returns whether that
            may be done.
        loan: What is lent to the trainer's metrics, and does not belong into a checkpoint.

    Returns:
        What undoes it.
    """
    writes, folder = BestEffortWrites(), Path(trainer.save_dir)
    names = ("validate", "save_metrics", "save_model", "final_eval", "plot_metrics")
    own_attributes = {name: vars(trainer)[name] for name in names if name in vars(trainer)}
    own = {name: getattr(trainer, name) for name in names}

    def write_last(path: Path, data: bytes) -> None:
        before_save()
        after_save(data, writes.replace(path, data))

    def attempt(name: str, what: Path, consequence: str, args: Any, kwargs: Any, failed: Any = None) -> Any:
        """Call one of the trainer's methods, which may be overridden and take more arguments than Ultralytics' own."""
        with writes.attempt(str(what), consequence, within=folder):
            return own[name](*args, **kwargs)
        return failed

    @wraps(own["validate"])
    def validate(*args: Any, **kwargs: Any) -> Any:
        result = own["validate"](*args, **kwargs)
        validated()
        return result

    def save_metrics(*args: Any, **kwargs: Any) -> Any:
        size, failed = storage.size(trainer.csv), object()
        result = attempt("save_metrics", trainer.csv, "its rows are in the journal", args, kwargs, failed)
        if result is failed:
            storage.cut_back(trainer.csv, size)  # half a row would spoil the next one
            return None
        return result

    def save_model(*args: Any, **kwargs: Any) -> Any:
        with loan.taken_back():
            return attempt("save_model", trainer.wdir, "no checkpoint is saved", args, kwargs, failed=False)

    def plot_metrics(*args: Any, **kwargs: Any) -> Any:
        return attempt("plot_metrics", folder / "results.png", "it is left out", args, kwargs)

    def final_eval(*args: Any, **kwargs: Any) -> Any:
        if may_strip() or trainer.world_size > 1:  # all ranks have to take part
            return own["final_eval"](*args, **kwargs)
        LOGGER.warning(f"{trainer.best} is neither stripped nor evaluated again, so as not to lose it")
        return None

    trainer.last = checkpoint_path(trainer.last, write_last)
    trainer.best = checkpoint_path(trainer.best, writes.replace)
    trainer.validate, trainer.save_metrics, trainer.save_model = validate, save_metrics, save_model
    trainer.final_eval, trainer.plot_metrics = final_eval, plot_metrics

    def undo() -> None:
        trainer.last, trainer.best = Path(trainer.last), Path(trainer.best)
        for name in own:
            vars(trainer).pop(name, None)
        vars(trainer).update(own_attributes)

    return undo


class ResultPath(type(Path())):  # type: ignore[misc]
    """The path of a checkpoint that lets another one be found when it is asked whether it is there."""

    look: Callable[[], None] | None = None

    def exists(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether it is there."""
        if self.look is not None:
            self.look()
        return bool(super().exists(*args, **kwargs))


def look_for_result(trainer: Any, find: Callable[[], Path | None]) -> None:
    """Let `model.train()` return with another checkpoint than `best.pt`, which is found only after the training.

    For a process that waits for others to train: the next that it does is to ask whether there is a `best.pt`.
    """
    best = trainer.best

    def look() -> None:
        trainer.best = find() or best

    trainer.best = ResultPath(best)
    trainer.best.look = look


class SteadyList(list[Any]):
    """A list that may change while it is iterated over: nothing is skipped, and what is added comes last.

    Attributes:
        at_end: Called when an iteration has ended, also with an exception; one within another does not count.
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


def steady_callbacks(trainer: Any, at_end: Mapping[str, Callable[[], None]]) -> None:
    """Let every callback of a trainer be called even if one before it removes itself.

    Ultralytics iterates over the very list that the callback is removed from, and so skips the one after it.

    Args:
        trainer: The trainer.
        at_end: What is called when all callbacks of an event were.
    """
    for event, functions in list(trainer.callbacks.items()):
        if not isinstance(functions, SteadyList):
            trainer.callbacks[event] = SteadyList(functions)
    for event, function in at_end.items():
        if isinstance(functions := trainer.callbacks[event], SteadyList):
            functions.at_end = function


def tell_of_exceptions(trainer: Any) -> None:
    """Let a training that ends with an exception send its last event, as Ultralytics does from 8.4.177 on."""
    if ultralytics_is_at_least(8, 4, 177):
        return
    train = trainer._do_train

    def do_train(*args: Any, **kwargs: Any) -> None:
        try:
            train(*args, **kwargs)
        except BaseException:
            trainer.run_callbacks("teardown")
            raise

    trainer._do_train = do_train


class NothingLeft(Exception):
    """Leaves the training loop of a run that had ended before; never seen outside."""


def go_straight_to_the_end(trainer: Any) -> None:
    """Let a resumed run that turns out to have ended do what is left: the final evaluation, and all that follows.

    A process may die after the last epoch, while Ultralytics strips and evaluates. It has no way to take that up: it
    refuses a run whose planned epochs are done, and trains one more epoch of one that was stopped. Has to be called
    before the training begins; `NothingLeft` raised from on_train_epoch_start then skips the loop.
    """
    train, resume = trainer._do_train, trainer.resume_training

    def resume_training(checkpoint: Any, *args: Any, **kwargs: Any) -> None:
        try:
            resume(checkpoint, *args, **kwargs)
        except AssertionError:
            done = (checkpoint or {}).get("epoch", -1) + 1
            if not done or done < trainer.epochs:  # a stripped checkpoint is finished and knows no epoch
                raise
            trainer._load_checkpoint_state(checkpoint)
            trainer.start_epoch = done

    def do_train(*args: Any, **kwargs: Any) -> None:
        try:
            train(*args, **kwargs)
        except NothingLeft:
            trainer.epoch = trainer.start_epoch - 1
            trainer.final_eval()
            if trainer.args.plots:
                trainer.plot_metrics()
            trainer.run_callbacks("on_train_end")
            for loader in (trainer.train_loader, trainer.test_loader):
                if hasattr(loader, "close"):
                    loader.close()

    trainer._do_train, trainer.resume_training = do_train, resume_training
