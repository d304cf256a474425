"""`yolo-cb train --resume RUN`: which checkpoint to resume from, and with which callbacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.cli.arguments import UsageError, check_arguments, read_cfg
from yolo_callbacks.config import ConfigError, restore_callbacks
from yolo_callbacks.run_dir.extending import prepare_extension
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.run_dir.recovery import NoCheckpointError, Resumable, find_resumable, run_directory

_NOT_REUSED = ("mode", "task", "resume", "cfg")  # when a run starts over


class NothingToDo(Exception):
    """The run has ended; the message says so. Not a failure: a script that always resumes ends up here."""


@dataclass(frozen=True)
class Resumption:
    """How to continue a run.

    Attributes:
        model: The checkpoint, or the initial model if the run starts over.
        arguments: Further arguments for `model.train`.
        folder: The run directory.
        note: What was chosen and why, for the log.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()
    note: str = ""


def find_run(run: Any) -> Resumption:
    """Return how to continue a run.

    Args:
        run: A run directory, a checkpoint, or True for the newest run.

    Raises:
        UsageError: If there is no such run, or nothing to resume in it.
        NothingToDo: If it has ended.
    """
    path = _path(run)
    try:
        found = find_resumable(path)
    except NoCheckpointError as error:
        if error.ended:
            raise NothingToDo(str(error)) from error
        if not error.untouched or not (path / "args.yaml").exists():
            raise UsageError(str(error)) from error
        arguments = read_cfg(str(path / "args.yaml"))
        check_arguments(arguments, ())
        given = {key: value for key, value in arguments.items() if value is not None and key not in _NOT_REUSED}
        if "model" not in given:
            raise UsageError(f"{path / 'args.yaml'} does not name the model to start from") from error
        arguments, model = given, str(given.pop("model"))
        note = f"{path} was interrupted in its first epoch: starting over with the arguments in its args.yaml."
        return Resumption(model, {**arguments, "save_dir": str(path), "exist_ok": True}, path, note)
    return _resumption(found, f"Resuming from {found}.")


def extend_run(run: Any, epochs: int, schedule: str, *, with_callbacks: bool = False) -> Resumption:
    """Return how to continue a run up to another number of epochs, and write the checkpoint for it.

    Args:
        run: A run directory, a checkpoint, or True for the newest run.
        epochs: The new number of epochs in all.
        schedule: What the learning rate does.
        with_callbacks: Whether its callbacks must be restored, which is checked before anything is written.

    Raises:
        UsageError: If it cannot be extended.
    """
    path = _path(run)
    if with_callbacks:
        callbacks_of(run_directory(path))
    try:
        ready = prepare_extension(path, until=epochs, schedule=schedule, name="--epochs")
    except NoCheckpointError as error:
        if error.untouched:  # it starts over, with the new number of epochs
            return find_run(str(path))
        raise UsageError(str(error)) from error
    except (ValueError, OSError) as error:  # it cannot be extended, there is no such schedule, or the disk refused
        raise UsageError(str(error)) from error
    return _resumption(ready.checkpoint, f"{ready}.")


def _path(run: Any) -> Path:
    """Return the path of a run; True is the newest one.

    Raises:
        UsageError: If there is none.
    """
    if run is not True:
        return Path(str(run))
    from ultralytics.utils.files import get_latest_run

    newest = get_latest_run()
    if not newest:
        raise UsageError("no run to resume was found: name its directory with --resume RUN")
    return run_directory(Path(newest))


def _resumption(found: Resumable, note: str) -> Resumption:
    moved = found.save_dir.resolve() != found.folder.resolve()
    arguments = {"resume": True, **({"save_dir": str(found.folder.absolute())} if moved else {})}
    return Resumption(str(found.path), arguments, found.folder, note)


def callbacks_of(folder: Path) -> list[Callback] | None:
    """Return the callbacks that the run had, from its `run.json`; None if it records none.

    Raises:
        UsageError: If they cannot be restored.
    """
    configuration = manifest_of(folder).get("callbacks")
    if not configuration:
        return None
    try:
        return restore_callbacks(configuration)
    except ConfigError as error:
        raise UsageError(
            f"the callbacks of {folder} cannot be restored from its run.json ({error}): "
            "list them with --config, or resume from Python"
        ) from error
