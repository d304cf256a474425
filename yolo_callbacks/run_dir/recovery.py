"""Which checkpoint of an interrupted run to resume from: the newest one that really loads."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.core.naming import BACKUP, EXCEPTION, EXTENDED, LAST_KEPT, LATEST, PREEMPTED, WEIGHTS
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.support import storage
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import all_finite

# In order of preference among checkpoints of one epoch: only one knows of more epochs to come, and weights from the
# middle of the next epoch are newer.
_LAST = f"{WEIGHTS}/last.pt"
_KNOWN = (EXTENDED, PREEMPTED, _LAST, BACKUP, f"{WEIGHTS}/{LATEST}", LAST_KEPT)
_FINISHED = "is a finished model without the optimizer state that a resume needs"


class NoCheckpointError(FileNotFoundError):
    """No checkpoint of a run can be resumed; the message says what is wrong with each.

    Attributes:
        untouched: True if the run has no finished epoch, so that nothing is lost by starting over.
        ended: True if the run is already finished.
    """

    untouched: bool = False
    ended: bool = False


@dataclass(frozen=True)
class Resumable:
    """A checkpoint to resume from.

    Attributes:
        path: The file.
        epochs: Number of finished epochs.
        planned_epochs: Number of epochs that the run planned.
        save_dir: The run directory that it was saved in; differs from `folder` if the run has moved.
        folder: The run directory that it is in now.
        passed_over: Checkpoints that were not chosen, and why.
    """

    path: Path
    epochs: int
    planned_epochs: int
    save_dir: Path
    folder: Path
    passed_over: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        why = "; ".join(f"{name} {reason}" for name, reason in self.passed_over.items())
        return f"{self.path}, after epoch {self.epochs} of {self.planned_epochs}" + (f" ({why})" if why else "")


def newest_checkpoint(run: str | os.PathLike[str]) -> Path:
    """Return the newest checkpoint of a run that loads and can be resumed, and log the choice and the reason.

    Args:
        run: The run directory, or one checkpoint.

    Raises:
        FileNotFoundError: If there is none (the message says what is wrong with each), or the run is already finished.

    Example:
        ```python
        model = YOLO(ycb.newest_checkpoint("runs/detect/train"))
        ycb.attach(model)
        model.train(resume=True)
        ```
    """
    found = find_resumable(run)
    LOGGER.info(f"Newest checkpoint of {run}: {found}")
    return found.path


def find_resumable(run: str | os.PathLike[str]) -> Resumable:
    """Return the newest checkpoint of a run that loads and can be resumed.

    Raises:
        NoCheckpointError: If there is none.
    """
    given = Path(run)
    if not os.path.exists(given):  # noqa: PTH110, Path.exists() raises for a name that is too long
        raise NoCheckpointError(f"{given} does not exist")
    folder = run_directory(given)
    if given.is_dir() and has_ended(folder) and not (folder / EXTENDED).exists():  # an extension has been prepared
        raise _ended(given)
    passed_over: dict[str, str] = {}
    for group in _candidates(given, folder):
        usable: list[Resumable] = []
        for path in group:
            found = examine(path, folder if given.is_dir() else None)
            if isinstance(found, str):
                passed_over[path.name] = found
            else:
                usable.append(found)
        if usable:
            best = max(usable, key=lambda item: item.epochs)  # of equals, the first
            older = {item.path.name: f"is from epoch {item.epochs}" for item in usable if item.epochs < best.epochs}
            return replace(best, passed_over={**passed_over, **older})
        if passed_over.get("last.pt") == _FINISHED:  # an older one would repeat epochs
            if not manifest_of(folder):
                raise _ended(given)
            break
    reasons = "; ".join(f"{name} {reason}" for name, reason in passed_over.items())
    error = NoCheckpointError(f"no checkpoint of {given} can be resumed: {reasons or 'there is none'}")
    error.untouched = given.is_dir() and not _has_epochs(folder)
    raise error


def run_directory(given: Path, saved_in: Path | None = None) -> Path:
    """Return the run directory of a path: of the directory itself, its weights folder, or a checkpoint.

    A checkpoint belongs to the run whose `weights` folder contains it, however deep; `weights` or the checkpoint may
    be a symbolic link. A checkpoint outside any run belongs to the run that saved it.

    Args:
        given: The path.
        saved_in: The run directory that the checkpoint names.
    """
    if given.is_dir():
        return given.parent if given.name == WEIGHTS and not (given / WEIGHTS).is_dir() else given
    place = Path(os.path.abspath(given))  # noqa: PTH100, resolve() would follow the links
    around = [folder.parent for path in (place, given.resolve()) for folder in path.parents if folder.name == WEIGHTS]
    outside = [saved_in] if saved_in is not None else []
    runs = (folder for folder in (*around, *outside) if _is_run(folder))
    return next(runs, (*around, *outside, place.parent)[0])


def _is_run(folder: Path) -> bool:
    return (folder / "callbacks" / "run.json").exists() or (folder / "args.yaml").exists()


def may_be_resumed(folder: Path, manifest: Mapping[str, Any], has_epochs: bool) -> bool:
    """Return whether a run can be resumed, as far as is known without loading a checkpoint.

    Args:
        folder: The run directory.
        manifest: The content of `run.json`.
        has_epochs: Whether an epoch was finished; a run without one starts over with its arguments.
    """
    if _says_ended(manifest) and not (folder / EXTENDED).exists():
        return False
    if not has_epochs:
        return (folder / "args.yaml").exists()
    stripped = manifest.get("status") == "stopped"  # by a decision, after which Ultralytics stripped last.pt
    return any((folder / name).exists() for name in _KNOWN if not (stripped and name == _LAST))


def has_ended(folder: Path) -> bool:
    """Return whether a run is finished, according to its `run.json`."""
    return _says_ended(manifest_of(folder))


def _says_ended(manifest: Mapping[str, Any]) -> bool:
    stop = manifest.get("stop") or {}
    if manifest.get("status") == "stopped":
        return not StopReason(stop.get("reason", StopReason.EXTERNAL)).from_outside
    return bool(manifest.get("status") == "finished")


def _ended(given: Path) -> NoCheckpointError:
    error = NoCheckpointError(f"{given} is already finished; to train further, pass a checkpoint")
    error.ended = True
    return error


def _candidates(given: Path, folder: Path) -> Iterator[list[Path]]:
    """Yield groups of files that may be resumed: first the known names, then all others.

    The checkpoint that an error left is not among them, because its weights may have caused the error.
    """
    if not given.is_dir():
        yield [given]
        return
    known = [folder / name for name in _KNOWN]
    yield [path for path in known if path.exists()]
    yield [path for path in checkpoints_in(folder) if path not in known and path.name != EXCEPTION]


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a run directory, including those in subfolders of `weights`."""
    return sorted((folder / WEIGHTS).rglob("*.pt"))


def examine(path: Path, folder: Path | None) -> Resumable | str:
    """Load a checkpoint and describe it, or return why it cannot be resumed."""
    if not storage.is_whole(path) and zipfile.is_zipfile(path):
        return "is damaged"  # a wrong bit in the weights would load
    try:
        content = load(path)
    except Exception as error:  # a torn file may raise anything in unpickling
        return f"does not load ({type(error).__name__})"
    try:
        return _judge(path, folder, content)
    except Exception:  # another program may have saved anything
        return "is not an Ultralytics checkpoint"


def _judge(path: Path, folder: Path | None, content: Any) -> Resumable | str:
    if content.get("ema") is None or content.get("optimizer") is None:
        return _FINISHED if content["model"] is not None else "is not an Ultralytics checkpoint"
    epochs, arguments = int(content.get("epoch", -1)) + 1, content.get("train_args") or {}
    if epochs < 1:
        return "is from the first epoch, which Ultralytics cannot resume"
    moments = [value for state in content["optimizer"]["state"].values() for value in state.values()]
    if not all_finite([*content["ema"].state_dict().values(), *moments]):
        return "has NaN or infinite weights"
    saved_in = Path(arguments["save_dir"]) if arguments.get("save_dir") else None
    folder = folder or run_directory(path, saved_in)
    return Resumable(path, epochs, int(arguments.get("epochs") or 0), saved_in or folder, folder)


def load(checkpoint: Path) -> Any:
    """Load a checkpoint; only the parts that are used are read from disk."""
    from ultralytics.utils.patches import torch_load

    return torch_load(checkpoint, map_location="cpu", mmap=os.name != "nt")  # Windows could not replace a mapped file


def epochs_in(checkpoint: Path) -> int | None:
    """Return a checkpoint's number of finished epochs; None if it does not load or is a finished model."""
    try:
        return int(load(checkpoint)["epoch"]) + 1 or None
    except Exception:  # as above
        return None


def _has_epochs(folder: Path) -> bool:
    """Return whether a run has reached its second epoch. A row is written before the epoch's checkpoint."""
    results = folder / "results.csv"
    return results.exists() and len(results.read_text(encoding="utf-8", errors="replace").splitlines()) > 2
