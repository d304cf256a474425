"""Which checkpoint of an interrupted run to go on from: the newest one that really loads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.core.naming import BACKUP, EXCEPTION, LAST_KEPT, LATEST, PREEMPTED, WEIGHTS
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import all_finite

# In order of preference where they are from the same epoch: weights from the middle of the next one are newer.
_LAST = f"{WEIGHTS}/last.pt"
_KNOWN = (PREEMPTED, _LAST, BACKUP, f"{WEIGHTS}/{LATEST}", LAST_KEPT)
_FINISHED = "is a finished model without the state that a resume needs"


class NoCheckpointError(FileNotFoundError):
    """No checkpoint of a run can be resumed; the message says what is wrong with each.

    Attributes:
        untouched: True if the run has no finished epoch behind it, so that nothing is lost by beginning anew.
        ended: True if the run has ended, so that nothing is left to train.
    """

    untouched: bool = False
    ended: bool = False


@dataclass(frozen=True)
class Resumable:
    """A checkpoint to go on from.

    Attributes:
        path: Where it is.
        epochs: Number of epochs that it has behind it.
        planned_epochs: Number of epochs that the run set out to do.
        save_dir: The run directory that it was saved in; another one if the run was moved since.
        folder: The run directory that it lies in now.
        passed_over: Checkpoints that were tried, and why each was not taken.
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
    """Return the newest checkpoint of a run that loads and can be resumed, and log which one and why.

    Args:
        run: The run directory, or one checkpoint.

    Raises:
        FileNotFoundError: If there is none; the message says what is wrong with each. Or if the run has ended.

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
    if not given.exists():
        raise NoCheckpointError(f"{given} does not exist")
    folder = run_directory(given)
    if given.is_dir() and _has_ended(folder):
        raise _ended(given)
    passed_over: dict[str, str] = {}
    for group in _candidates(given, folder):
        usable: list[Resumable] = []
        for path in group:
            found = _examine(path, folder if given.is_dir() else None)
            if isinstance(found, str):
                passed_over[path.name] = found
            else:
                usable.append(found)
        if usable:
            best = max(usable, key=lambda item: item.epochs)  # the first of equals
            older = {item.path.name: f"is of epoch {item.epochs}" for item in usable if item.epochs < best.epochs}
            return replace(best, passed_over={**passed_over, **older})
        if passed_over.get("last.pt") == _FINISHED:  # older ones would take it back by epochs that it has done
            if not manifest_of(folder):
                raise _ended(given)
            break
    reasons = "; ".join(f"{name} {reason}" for name, reason in passed_over.items())
    error = NoCheckpointError(f"no checkpoint of {given} can be resumed: {reasons or 'there is none'}")
    error.untouched = given.is_dir() and not _has_epochs(folder)
    raise error


def run_directory(given: Path, saved_in: Path | None = None) -> Path:
    """Return the run directory that a path means: itself, its weights folder, or a checkpoint.

    A checkpoint belongs to the run whose `weights` folder it lies in, however deep; `weights` or the checkpoint may
    be a link to somewhere else. One that was kept outside of its run belongs to the run that it was saved by.

    Args:
        given: The path.
        saved_in: The run directory that a checkpoint names itself.
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
    """Return whether a run that is over can be gone on with, as far as can be told without loading a checkpoint.

    Args:
        folder: The run directory.
        manifest: What `run.json` says.
        has_epochs: Whether an epoch was finished; a run without any begins anew with its arguments.
    """
    if _says_ended(manifest):
        return False
    if not has_epochs:
        return (folder / "args.yaml").exists()
    stripped = manifest.get("status") == "stopped"  # it came to its end, and Ultralytics took the optimizer out
    return any((folder / name).exists() for name in _KNOWN if not (stripped and name == _LAST))


def _has_ended(folder: Path) -> bool:
    """Return whether a run has nothing left to train, by what it says itself."""
    return _says_ended(manifest_of(folder))


def _says_ended(manifest: Mapping[str, Any]) -> bool:
    stop = manifest.get("stop") or {}
    if manifest.get("status") == "stopped":
        return not StopReason(stop.get("reason", StopReason.EXTERNAL)).from_outside
    return bool(manifest.get("status") == "finished")


def _ended(given: Path) -> NoCheckpointError:
    error = NoCheckpointError(f"{given} has ended, nothing is left to train; to go on from a checkpoint, name it")
    error.ended = True
    return error


def _candidates(given: Path, folder: Path) -> Iterator[list[Path]]:
    """Give the files that may be resumed, the likely ones together first, then whatever else there is.

    What an error has left is not among them: it may be what caused it.
    """
    if not given.is_dir():
        yield [given]
        return
    known = [folder / name for name in _KNOWN]
    yield [path for path in known if path.exists()]
    yield [path for path in checkpoints_in(folder) if path not in known and path.name != EXCEPTION]


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a run directory, those in folders of their own too."""
    return sorted((folder / WEIGHTS).rglob("*.pt"))


def _examine(path: Path, folder: Path | None) -> Resumable | str:
    """Load a checkpoint; return what is known of it, or why it cannot be resumed."""
    try:
        content = load(path)
    except Exception as error:  # whatever a torn file makes of unpickling
        return f"does not load ({type(error).__name__})"
    try:
        return _judge(path, folder, content)
    except Exception:  # whatever another program may have saved
        return "is no checkpoint of Ultralytics"


def _judge(path: Path, folder: Path | None, content: Any) -> Resumable | str:
    if content.get("ema") is None or content.get("optimizer") is None:
        return _FINISHED if content["model"] is not None else "is no checkpoint of Ultralytics"
    epochs, arguments = int(content.get("epoch", -1)) + 1, content.get("train_args") or {}
    if epochs < 1:
        return "is from the first epoch, which Ultralytics cannot resume"
    moments = [value for state in content["optimizer"]["state"].values() for value in state.values()]
    if not all_finite([*content["ema"].state_dict().values(), *moments]):
        return "has weights that are NaN or infinite"
    saved_in = Path(arguments["save_dir"]) if arguments.get("save_dir") else None
    folder = folder or run_directory(path, saved_in)
    return Resumable(path, epochs, int(arguments.get("epochs") or 0), saved_in or folder, folder)


def load(checkpoint: Path) -> Any:
    """Load a checkpoint, of which only what is looked at is read."""
    from ultralytics.utils.patches import torch_load

    return torch_load(checkpoint, map_location="cpu", mmap=os.name != "nt")  # Windows would keep it from being replaced


def epochs_in(checkpoint: Path) -> int | None:
    """Return how many epochs a checkpoint has behind it; None if it does not load, or is a finished model."""
    try:
        return int(load(checkpoint)["epoch"]) + 1 or None
    except Exception:  # as above
        return None


def _has_epochs(folder: Path) -> bool:
    """Return whether a run has gone on after its first epoch, whose row is written before its checkpoint."""
    results = folder / "results.csv"
    return results.exists() and len(results.read_text(encoding="utf-8", errors="replace").splitlines()) > 2
