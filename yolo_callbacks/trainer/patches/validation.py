"""Lets an epoch go without validation.

Changed: `validate` and `save_metrics` of this trainer, in the first epoch that is skipped.
Why: with `args.val` switched off, Ultralytics keeps metrics and fitness of the last validation. It writes them to
`results.csv` again, counts them against its patience, saves the epoch as `best.pt` if the last validated one was the
best, and stores `val=False` in the checkpoint, so that a resumed run has it too. A skipped epoch has no metrics and no
fitness instead: Ultralytics' early stopping ignores it, and its cells in `results.csv` are empty.
Undone: by `SkippableValidation.undo`.
Needed in: every supported version.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer import ranks
from yolo_callbacks.trainer.patches.platform import is_cancelled

_PATCHED = ("validate", "save_metrics")


class SkippableValidation:
    """Skips the validation of single epochs of one training.

    Args:
        trainer: The trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._unless: Callable[[], bool] | None = None
        self._own: dict[str, Any] | None = None
        self._skipped = False
        self._columns: list[str] = []

    def skip(self, unless: Callable[[], bool] | None) -> None:
        """Skip the validation of the epoch that has just begun. Every rank calls it alike.

        Args:
            unless: Called after the batches, on rank 0; returns whether to validate after all. None validates.
        """
        self._unless, self._skipped = unless, False
        if unless is not None and self._own is None:
            self._patch()

    def undo(self) -> None:
        """Take back what was changed, and let go of the trainer."""
        if self._own is not None:
            for name in _PATCHED:
                vars(self._trainer).pop(name, None)
            vars(self._trainer).update(self._own)
        self._trainer = self._own = self._unless = None

    def _patch(self) -> None:
        trainer = self._trainer
        validate_own, save_own = trainer.validate, trainer.save_metrics
        self._own = {name: vars(trainer)[name] for name in _PATCHED if name in vars(trainer)}

        def validate(*args: Any, **kwargs: Any) -> Any:
            self._skipped = self._unless is not None and self._agreed(self._unless)
            if self._skipped:
                return ({} if ranks.is_main() else None), None
            return validate_own(*args, **kwargs)

        def save_metrics(*args: Any, **kwargs: Any) -> Any:
            if not self._skipped:
                return save_own(*args, **kwargs)
            return self._save_without_metrics(save_own, *args, **kwargs)

        trainer.validate, trainer.save_metrics = validate, save_metrics

    def _agreed(self, unless: Callable[[], bool]) -> bool:
        """Return whether to skip the epoch, as rank 0 sees it: on several ranks a validation needs all of them."""
        skip = not (ranks.is_main() and (may_end(self._trainer) or unless()))
        return ranks.broadcast(skip, int(self._trainer.world_size or 0))

    def _save_without_metrics(self, save: Callable[..., Any], metrics: Mapping[str, Any], **kwargs: Any) -> Any:
        """Let the trainer write the row of a skipped epoch, with all columns, and empty what was not measured."""
        path = Path(self._trainer.csv)
        try:
            columns, size = _columns(path), storage.size(path)
        except OSError:  # the trainer's own attempt says what is wrong with the disk
            columns, size = [], 0
        columns = columns or self._columns  # somebody has removed the file
        if not columns:
            return save(metrics, **kwargs)
        self._columns = columns
        result = save({name: metrics.get(name, math.nan) for name in columns}, **kwargs)
        try:
            _empty_what_is_unknown(path, size, columns, metrics)
        except OSError as error:
            LOGGER.warning(
                f"{path}: the row of an epoch without validation keeps 'nan' for what was not measured: {error}"
            )
        return result


def may_end(trainer: Any) -> bool:
    """Return whether a training may end with the epoch whose batches are done. Rank 0.

    Besides its planned end this is an end by `time`, which is decided after the validation from the mean duration of
    the epochs, and by the trainer's own patience, which decides only in a validated epoch.
    """
    epoch, args, stopper = trainer.epoch + 1, trainer.args, trainer.stopper
    if trainer.stop or is_cancelled(trainer) or epoch >= trainer.epochs:
        return True
    if epoch - stopper.best_epoch >= stopper.patience:
        return True
    if not args.time:
        return False
    limit, taken = 3600 * args.time, time.time() - trainer.train_time_start
    mean = taken / (trainer.epoch - trainer.start_epoch + 1)
    return bool(limit - taken < mean or epoch + 1 >= limit / mean)


def _empty_what_is_unknown(path: Path, size: int, columns: list[str], metrics: Mapping[str, Any]) -> None:
    """Empty the cells of a `results.csv` that were not measured, in the row after its first `size` bytes."""
    with open(path, "rb") as file:
        file.seek(size)
        *header, row = file.read().decode().splitlines() or [""]
    cells = row.split(",")
    if len(cells) == len(columns) + 2:  # epoch and time; if the disk is full, nothing was written
        known = [cell if name in metrics else "" for name, cell in zip(columns, cells[2:])]
        storage.replace_tail(path, size, "".join(f"{line}\n" for line in (*header, ",".join([*cells[:2], *known]))))


def _columns(path: Path) -> list[str]:
    """Return the names in the header of a `results.csv`, after `epoch` and `time`; empty if there is none."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return [name.strip() for name in file.readline().rstrip("\n").split(",")][2:]
