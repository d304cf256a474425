"""Runs without a trainer: records made of bare values, folded exactly as a session folds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from yolo_callbacks import Callback, Decision, EpochRecord, History, Plan, SetLearningRate, Stop

TINY = {"imgsz": 64, "batch": 4, "nbs": 4, "warmup_epochs": 0, "device": "cpu", "plots": False, "verbose": False}
"""Arguments of the smallest training: an optimizer step a batch, so that the weights move at all, and no warm-up, in
which no patience is counted."""

TINY_MODEL = str(Path(__file__).with_name("tiny26.yaml"))
"""A model that trains five times as fast as yolo26n: one level of detection, few modules to copy and save."""

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
