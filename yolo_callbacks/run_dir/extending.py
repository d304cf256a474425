"""More epochs for a run: which checkpoint it goes on from, and the copy of it that says so.

Ultralytics refuses to resume a run beyond its planned epochs, and a finished run at all: its `last.pt` and `best.pt`
have lost their optimizer. `weights/extended.pt` is a checkpoint of the run that has kept it, with the new number of
epochs among its arguments, so that any way to resume it trains them, on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.epochs import epochs_in_words
from yolo_callbacks.core.extension import (
    DEFAULT_SCHEDULE,
    HOLD,
    REWARM,
    Extension,
    check_schedule,
    extension_from_json,
    rewarming,
)
from yolo_callbacks.core.naming import EXCEPTION, EXTENDED, JOURNAL, WEIGHTS
from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.run_dir.recorded_run import RecordedRun
from yolo_callbacks.run_dir.recovery import (
    NoCheckpointError,
    Resumable,
    checkpoints_in,
    examine,
    find_resumable,
    has_ended,
    load,
    run_directory,
)
from yolo_callbacks.run_dir.results_csv import read_results_csv
from yolo_callbacks.support import storage

_MARK = "yolo_callbacks_extension"
_KEPT = ("args.yaml", "results.csv", "callbacks/run.json", JOURNAL, "callbacks/epochs.csv")
_MODELS = (f"{WEIGHTS}/last.pt", f"{WEIGHTS}/best.pt")


class ExtensionError(ValueError):
    """A run cannot be extended; the message says why, and what to do."""


@dataclass(frozen=True)
class Extended:
    """A run that is ready to go on.

    Attributes:
        checkpoint: The checkpoint to resume.
        extension: What was added; None if the run is resumed as planned.
        kept_in: The folder with the state of the run before; None if nothing was added.
    """

    checkpoint: Resumable
    extension: Extension | None = None
    kept_in: Path | None = None

    def __str__(self) -> str:
        if self.extension is None:
            return f"Resuming from {self.checkpoint}"
        before = f" (the state before is kept in {self.kept_in})" if self.kept_in is not None else ""
        return f"{self.checkpoint.folder} is {self.extension}{before}"


def prepare_extension(
    run: Path, *, until: int = 0, more: int = 0, schedule: str = DEFAULT_SCHEDULE, name: str = "epochs"
) -> Extended:
    """Choose the checkpoint that a run goes on from, keep the state before, and write `weights/extended.pt`.

    Args:
        run: The run directory, or one checkpoint.
        until: The new number of epochs in all; 0 if `more` is given.
        more: The number of epochs to add: to those it has trained, or to those it has planned if it was interrupted.
        schedule: What the learning rate does; see `Extension`.
        name: How the caller's argument is called, for messages.

    Raises:
        ExtensionError: If it cannot be extended.
        NoCheckpointError: If the run was interrupted and no checkpoint of it can be resumed.
        ValueError: If there is no such schedule.
        OSError: If the disk refuses it.
    """
    check_schedule(schedule)
    if not run.exists():
        raise ExtensionError(f"{run} does not exist")
    ended = run.is_dir() and has_ended(run_directory(run))
    try:
        chosen = _of_ended_run(run) if ended else find_resumable(run)
    except NoCheckpointError as error:  # trained without callbacks: nothing but last.pt says that it has ended
        if not error.ended:
            raise
        ended, chosen = True, _of_ended_run(run)
    content = load(chosen.path)
    arguments = dict(content["train_args"])
    if arguments.get("time"):
        raise ExtensionError(
            f"{chosen.folder} was trained with time={arguments['time']:g}, which plans by the clock and not in epochs: "
            f"start a new run from {chosen.folder / _MODELS[1]}"
        )
    records = _records(chosen.folder)
    trained = max([chosen.epochs, *records])
    interrupted = run.is_dir() and not ended
    target = until or (max(chosen.planned_epochs, trained) if interrupted else chosen.epochs) + more
    if not ended and target == chosen.planned_epochs:
        return Extended(chosen)
    done = trained if ended else chosen.epochs
    if until and target <= done:
        raise ExtensionError(
            f"{chosen.folder} has already trained {epochs_in_words(done)}: {name}={target} must be more than that"
        )
    plan = RecordedRun(chosen.folder).journal.plan
    extension = _extension(chosen, target, schedule, arguments, plan, records.get(chosen.epochs), trained)
    extension = replace(extension, ended=str((manifest_of(chosen.folder).get("stop") or {}).get("message", "")))
    kept_in = _keep(chosen.folder, with_models=not interrupted)
    _write(chosen, content, arguments, extension)
    path = chosen.folder / EXTENDED
    return Extended(replace(chosen, path=path, planned_epochs=target), extension, kept_in)


def extension_in(checkpoint: Path) -> Extension | None:
    """Return the extension that begins with a checkpoint; None if it is an ordinary one."""
    mark = load(checkpoint).get(_MARK)
    return extension_from_json(mark) if mark else None


def _of_ended_run(given: Path) -> Resumable:
    """Return the newest checkpoint of a run that has ended which still has its optimizer.

    Raises:
        ExtensionError: If there is none.
    """
    folder = run_directory(given)
    listed = manifest_of(folder).get("checkpoints")
    if listed is None:
        paths = checkpoints_in(folder)
    else:  # others may be of epochs that were abandoned
        paths = [folder / _MODELS[0], *(folder / str(item["file"]) for item in listed)]
    found = [examine(path, folder) for path in paths if path.exists() and path.name != EXCEPTION]
    usable = [item for item in found if isinstance(item, Resumable)]
    if not usable:
        best = folder / _MODELS[1]
        raise ExtensionError(
            f"{given} has no checkpoint with its optimizer, only finished models: start a new run from "
            f"{best if best.exists() else folder / _MODELS[0]}, and keep one next time with ModelCheckpoint or "
            "BackupAndRestore(delete_checkpoint=False)"
        )
    return max(usable, key=lambda item: item.epochs)


def _records(folder: Path) -> dict[int, EpochRecord]:
    """Return the epochs of a run by their number, from its journal, or else from `results.csv`."""
    entries = RecordedRun(folder).entries
    results = folder / "results.csv"
    records = [entry.record for entry in entries] or (read_results_csv(results) if results.exists() else [])
    return {record.epoch: record for record in records}


def _extension(
    chosen: Resumable,
    target: int,
    schedule: str,
    arguments: Mapping[str, Any],
    plan: Plan,
    record: EpochRecord | None,
    trained: int,
) -> Extension:
    done, length = chosen.epochs, target - chosen.epochs
    planned = (record.planned_epochs if record is not None else 0) or chosen.planned_epochs
    closed = done > planned - int(arguments.get("close_mosaic") or 0)
    held_before = plan.extension_of(done)
    return Extension(
        after=done,
        planned_epochs=target,
        schedule=schedule,
        planned_before=chosen.planned_epochs,  # the loss keeps to it, even if the end was brought forward
        trained=trained,
        first_lr=_last_rate(record) if schedule in (HOLD, REWARM) else None,
        warmup_epochs=rewarming(float(arguments.get("warmup_epochs") or 0), length) if schedule == REWARM else 0,
        mosaic_closed=schedule == HOLD and (closed or bool(held_before and held_before.mosaic_closed)),
        held_progress=held_before.loss_progress if held_before is not None else None,
    )


def _last_rate(record: EpochRecord | None) -> float | None:
    """Return an epoch's learning rate in the trainer's own schedule, in the parameter group with the lowest one."""
    if record is None or record.base_lr is not None:
        return record.base_lr if record is not None else None
    rates = [value for name, value in record.metrics.items() if name.startswith("lr/pg") and value > 0]
    return min(rates, default=None)


def _keep(folder: Path, *, with_models: bool) -> Path:
    """Copy what an extension overwrites into a new folder of the run, and return it."""
    kept_in = storage.new_folder(folder / "before-extension")
    for name in (*_KEPT, *(_MODELS if with_models else ())):
        if (folder / name).exists():
            storage.duplicate(folder / name, kept_in / name)
    return kept_in


def _write(chosen: Resumable, content: Mapping[str, Any], arguments: Mapping[str, Any], extension: Extension) -> None:
    """Write the checkpoint that the extension begins from."""
    import torch

    new = {
        **content,
        _MARK: asdict(extension),
        "train_args": {**arguments, **_own_optimizer(content, arguments), "epochs": extension.planned_epochs},
    }
    if new.get("stopper"):  # Ultralytics' own patience begins anew
        new["stopper"] = {**new["stopper"], "best_epoch": extension.after}
    with storage.replacing(chosen.folder / EXTENDED) as temporary:
        torch.save(new, temporary)
        if not storage.is_whole(temporary):
            raise OSError(f"what was written for {chosen.folder / EXTENDED} does not read back")


def _own_optimizer(content: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that lead to the checkpoint's optimizer; more epochs may lead `auto` to another one."""
    if str(arguments.get("optimizer", "auto")).lower() != "auto":
        return {}
    groups = content["optimizer"]["param_groups"]
    lowest = min(float(group.get("initial_lr", group["lr"])) for group in groups)
    muon = any("use_muon" in group for group in groups)
    return {"optimizer": "MuSGD" if muon else "AdamW", "lr0": lowest, "warmup_bias_lr": 0.0}
