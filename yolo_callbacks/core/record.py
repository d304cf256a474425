"""What is known of a run: its plan, a record an epoch, the decisions taken, and the history that holds the records.

Everything here is plain data and pure functions: no trainer, no torch, no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar, overload

S = TypeVar("S")


@dataclass(frozen=True)
class Plan:
    """What a run sets out to do, known before its first epoch.

    Attributes:
        planned_epochs: Number of epochs asked for.
        base_lr: Learning rate that the trainer's own schedule gives the first epoch, in the parameter group with the
            lowest one; None where it is not known (a replay).
        final_lr: Learning rate that the trainer's own schedule ends with, same group.
        trainer_patience: The trainer's own `patience` argument, in epochs; 0 means that it never stops a run.
    """

    planned_epochs: int = 0
    base_lr: float | None = None
    final_lr: float | None = None
    trainer_patience: int = 0


@dataclass(frozen=True)
class EpochRecord:
    """What one finished epoch left behind.

    Attributes:
        epoch: Number of the epoch, counted from 1 as in `results.csv` and in the progress bar.
        metrics: The trainer's keys (`train/box_loss`, `metrics/mAP50-95(B)`, `val/cls_loss`, `lr/pg0`) and `fitness`.
            Keys of an epoch that was not validated hold only what that epoch measured.
        validated: Whether validation really ran in this epoch.
        planned_epochs: Number of epochs planned when this one ended (it moves with the trainer's `time` argument).
        base_lr: Learning rate that the trainer's own schedule gave this epoch (lowest group, end of warm-up).
        next_base_lr: The same for the next epoch.
        lr_factor: What the learning rate was multiplied with in this epoch, 1.0 where nobody changed it.
        elapsed: Seconds of training up to here, summed over resumes.
        measures: Seconds, images a second, memory: see `CSVLogger` for the keys.
    """

    epoch: int
    metrics: Mapping[str, float]
    validated: bool = True
    planned_epochs: int = 0
    base_lr: float | None = None
    next_base_lr: float | None = None
    lr_factor: float = 1.0
    elapsed: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)


class StopReason(str, Enum):
    """Why a run ended before its last planned epoch."""

    PLATEAU = "plateau"
    """The monitored metric stopped improving."""
    THRESHOLD = "threshold"
    """The monitored metric reached `stopping_threshold`."""
    DIVERGED = "diverged"
    """The monitored metric passed `divergence_threshold`."""
    NOT_FINITE = "not_finite"
    """The monitored metric was NaN or infinite."""
    REQUESTED = "requested"
    """Code called `Attachment.stop()`."""
    INTERRUPTED = "interrupted"
    """A person pressed Ctrl-C."""
    TRAINER_PATIENCE = "trainer_patience"
    """Ultralytics' own `patience` ran out."""
    TIME_LIMIT = "time_limit"
    """Ultralytics' own `time` limit was reached."""
    EXTERNAL = "external"
    """Something else set `trainer.stop`: another callback, or a cancel from the Ultralytics Platform."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Decision:
    """Something decided after an epoch. Use one of the subclasses.

    Attributes:
        message: One sentence for people.
        epoch: The finished epoch after which it was decided, counted from 1; 0 means before the first.
        source: Label of the callback that decided; filled in by the run.
    """

    message: str
    epoch: int = 0
    source: str = ""

    @property
    def kind(self) -> str:
        """Machine-readable name of the decision, as in the journal."""
        return _KIND_OF[type(self)]

    @property
    def label(self) -> str:
        """A few words for a table or a plot; empty where the decision is not worth a mark."""
        return self.kind

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `decision_from_json` reads back."""
        return {"kind": self.kind, **{key: _encode(value) for key, value in asdict(self).items()}}


@dataclass(frozen=True)
class Stop(Decision):
    """End the training after this epoch."""

    reason: StopReason = StopReason.REQUESTED

    @property
    def label(self) -> str:
        return f"stop ({self.reason})"


@dataclass(frozen=True)
class SetLearningRate(Decision):
    """Multiply the trainer's own schedule from the next epoch on.

    Attributes:
        factor: This source's factor from now on; it replaces the source's last one and multiplies everybody else's.
        min_lr: Lower bound of the learning rate of every group from now on; 0 for none.
        announce: Whether it is worth a line in the log and a mark in the plot.
    """

    factor: float = 1.0
    min_lr: float = 0.0
    announce: bool = True

    @property
    def label(self) -> str:
        return f"lr factor {self.factor:.3g}" if self.announce else ""


@dataclass(frozen=True)
class SaveCheckpoint(Decision):
    """Keep the checkpoint of this epoch under a name of its own.

    Attributes:
        file: Where, relative to the run directory (or absolute, where the user asked for that).
        role: `best`, `periodic`, `latest` or `restore`.
        value: What the monitor saw, None for a role that looks at none.
        monitor: Name of the monitored metric.
        drop: Files that this one replaces; they go only after this one is safe.
        weights_only: Whether to drop the optimizer, as Ultralytics does with its own at the end.
        announce: Whether it is worth a line in the log.
    """

    file: str = ""
    role: str = "best"
    value: float | None = None
    monitor: str = ""
    drop: tuple[str, ...] = ()
    weights_only: bool = False
    announce: bool = True

    @property
    def label(self) -> str:
        return f"{self.role} -> {self.file.rsplit('/', 1)[-1]}" if self.role == "best" else ""


_KINDS: dict[str, type[Decision]] = {
    "stop": Stop,
    "set_learning_rate": SetLearningRate,
    "save_checkpoint": SaveCheckpoint,
}
_KIND_OF: dict[type[Decision], str] = {cls: kind for kind, cls in _KINDS.items()}


def decision_from_json(data: Mapping[str, Any]) -> Decision:
    """Read back what `Decision.to_json` wrote.

    Raises:
        ValueError: If the kind is unknown (a journal of a newer version).
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"unknown decision kind {kind!r}, known are {', '.join(_KINDS)}")
    if "reason" in fields:
        fields["reason"] = StopReason(fields["reason"])
    if "drop" in fields:
        fields["drop"] = tuple(fields["drop"])
    if "value" in fields:
        fields["value"] = decode_number(fields["value"])
    return _KINDS[kind](**fields)


def record_to_json(record: EpochRecord) -> dict[str, Any]:
    """Return plain data that `record_from_json` reads back without loss."""
    return {key: _encode(value) for key, value in asdict(record).items()}


def record_from_json(data: Mapping[str, Any]) -> EpochRecord:
    """Read back what `record_to_json` wrote."""
    fields = dict(data)
    for key in ("metrics", "measures"):
        fields[key] = {name: decode_number(value) for name, value in fields.get(key, {}).items()}
    for key in ("base_lr", "next_base_lr"):
        fields[key] = decode_number(fields.get(key))
    return EpochRecord(**fields)


def _encode(value: Any) -> Any:
    """Spell NaN and infinity as strings, since strict JSON has no number for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, StopReason):
        return value.value
    return value


def decode_number(value: Any) -> Any:
    """Read back a number that may have been spelt as a string."""
    return float(value) if isinstance(value, str) else value


class Fold(Protocol[S]):
    """A pure left fold over the records of a run. Must be hashable and equal to its copies."""

    def initial(self, plan: Plan) -> S:
        """Return the state before the first epoch."""

    def step(self, state: S, record: EpochRecord) -> S:
        """Return the state after one more epoch."""


class History(Sequence[EpochRecord]):
    """The epochs of a run so far, oldest first, and the plan they belong to.

    It only ever grows at its end, so a fold can go on from where it stood: `fold` costs the same at epoch 10 and at
    epoch 10,000, and still is a pure function of the records.

    Example:
        >>> history = History(Plan(planned_epochs=3), [EpochRecord(1, {"fitness": 0.5})])
        >>> len(history), history[-1].metrics["fitness"]
        (1, 0.5)
    """

    def __init__(self, plan: Plan | None = None, records: Iterable[EpochRecord] = ()) -> None:
        self.plan = plan or Plan()
        self._records: list[EpochRecord] = []
        self._folds: dict[Fold[Any], tuple[int, Any]] = {}
        for record in records:
            self.append(record)

    def append(self, record: EpochRecord) -> None:
        """Add the next epoch.

        Raises:
            ValueError: If its number does not follow the last one.
        """
        if self._records and record.epoch <= self._records[-1].epoch:
            raise ValueError(f"epoch {record.epoch} cannot follow epoch {self._records[-1].epoch}")
        self._records.append(record)

    def fold(self, fold: Fold[S]) -> S:
        """Return the state of `fold` after the newest record."""
        done, state = self._folds.get(fold, (0, None))
        if done == 0:
            state = fold.initial(self.plan)
        for record in self._records[done:]:
            state = fold.step(state, record)
        self._folds[fold] = (len(self._records), state)
        result: S = state
        return result

    @property
    def epoch(self) -> int:
        """Number of the newest finished epoch, counted from 1; 0 before the first."""
        return self._records[-1].epoch if self._records else 0

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[EpochRecord]: ...
    def __getitem__(self, index: int | slice) -> EpochRecord | list[EpochRecord]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self._records)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs of {self.plan.planned_epochs})"
