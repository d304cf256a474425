"""What many tests share: runs without a trainer, and what is done to and read of those with one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from yolo_callbacks import Attachment, Callback, Decision, EpochRecord, History, Plan, SetLearningRate, Stop
from yolo_callbacks.core.entry import JournalContent
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.session.hook import Hook

TINY = {"imgsz": 64, "batch": 4, "nbs": 4, "warmup_epochs": 0, "device": "cpu", "plots": False, "verbose": False}
"""Arguments of the smallest training: an optimizer step a batch, so that the weights move at all, and no warm-up, in
which no patience is counted."""

TINY_MODEL = str(Path(__file__).with_name("tiny26.yaml"))
"""A model that trains five times as fast as yolo26n: one level of detection, few modules to copy and save."""

_TINY_HEADS = {
    "detect": [[2], 1, "Detect", ["nc"]],
    "segment": [[2], 1, "Segment26", ["nc", 8, 8]],
    "semantic": [[2, 1], 1, "SemanticSegment", ["nc"]],
    "depth": [[2], 1, "Depth", [16]],
    "classify": [-1, 1, "Classify", ["nc"]],
    "pose": [[2], 1, "Pose26", ["nc", "kpt_shape"]],
    "obb": [[2], 1, "OBB26", ["nc", 1]],
}


def tiny_model(task: str, folder: Path) -> str:
    """Write the tiny model with the head of another task to a folder, and return its path."""
    content = yaml.safe_load(Path(TINY_MODEL).read_text(encoding="utf-8"))
    if task == "classify":  # which has no boxes
        del content["end2end"], content["reg_max"]
    file = folder / f"tiny26-{task}.yaml"
    file.write_text(yaml.safe_dump({**content, "kpt_shape": [17, 3], "head": [_TINY_HEADS[task]]}), encoding="utf-8")
    return str(file)


NAN = float("nan")
SKIPPED = None  # an epoch that was not validated


def record(epoch: int, value: float | None, *, key: str = "fitness", planned: int = 0, **fields) -> EpochRecord:
    """Return a record with one validated metric, or of an epoch without validation."""
    metrics = {"train/box_loss": 1.0} if value is None else {"train/box_loss": 1.0, key: value}
    fields.setdefault("elapsed", 10.0 * epoch)
    return EpochRecord(
        epoch, metrics, validated=value is not None, planned_epochs=planned, last=epoch == planned, **fields
    )


def decisions_of(
    callback: Callback, values: Iterable[float | None], *, key: str = "fitness", plan: Plan | None = None, **fields
) -> list[Decision]:
    """Return what a callback decides over a run with these values."""
    plan = plan or Plan(planned_epochs=1000, trainer_patience=100)
    history, decided = History(plan), []
    for epoch, value in enumerate(values, start=1):
        history.append(record(epoch, value, key=key, planned=plan.planned_epochs, **fields))
        answer = callback.decide(history) or ()
        decided += [answer] if isinstance(answer, Decision) else answer
    return decided


def stop_epoch(callback: Callback, values: Sequence[float | None], **kwargs) -> int | None:
    """Return the epoch in which a callback first stops a run, None if it never does."""
    return next((d.epoch for d in decisions_of(callback, values, **kwargs) if isinstance(d, Stop)), None)


def reductions(callback: Callback, values: Sequence[float | None], **kwargs) -> list[tuple[int, float]]:
    """Return (epoch, factor) of each change of the learning rate."""
    return [(d.epoch, d.factor) for d in decisions_of(callback, values, **kwargs) if isinstance(d, SetLearningRate)]


# -------------------------------------------------------------------------------------------- for a training


def constant(metrics) -> float:
    """A monitor that never gets better: pictures of 64 pixels teach too little to lean on."""
    return 1.0


def slower(epoch: int, lr: float) -> float:
    """A schedule that changes the rate in every epoch."""
    return lr * 0.8


class Crash(Exception):
    """A user's error."""


def crash_in(epoch: int, error: type[BaseException] = Crash) -> Callable[[Any], None]:
    """Return a function for any event that raises in an epoch, counted from 1."""

    def crash(trainer) -> None:
        if trainer.epoch + 1 == epoch:
            raise error

    return crash


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a condition holds, and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def attachment_of(model: Any) -> Attachment:
    """Return what `attach` has registered with a model."""
    hooks = (function for function in model.callbacks["on_fit_epoch_end"] if isinstance(function, Hook))
    return next(hooks).receive.__self__


# -------------------------------------------------------------------------------------------- what it leaves


def run_json(folder: Path | str) -> dict[str, Any]:
    return json.loads((Path(folder) / "callbacks" / "run.json").read_text(encoding="utf-8"))


def journal(folder: Path) -> JournalContent:
    return read_journal(folder / "callbacks" / "journal.jsonl")


def journal_records(folder: Path, name: str = "journal.jsonl") -> list[dict[str, Any]]:
    """Return the records as they stand in the file: reading it with the package would hide one that is there twice."""
    lines = [json.loads(line) for line in (folder / "callbacks" / name).read_text(encoding="utf-8").splitlines()]
    return [line["record"] for line in lines if "record" in line]
