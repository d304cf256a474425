"""What is known of a run: its plan, a record per epoch, and the history that holds the records.

Everything here is plain data and pure functions: no trainer, no torch, no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar, overload

from yolo_callbacks.support.numbers import decode_number, encode_number

S = TypeVar("S")

MIXING = ("mosaic", "mixup", "cutmix", "copy_paste")
"""The augmentations that `close_mosaic` switches off."""


def warm_up(asked: float, planned_epochs: int) -> float:
    """Return how many epochs the learning rate is warmed up; as Ultralytics has it, never in all of them."""
    return float(max(0, min(asked, planned_epochs - 1)))


@dataclass(frozen=True)
class Plan:
    """What a run sets out to do, known before its first epoch.

    Attributes:
        planned_epochs: Number of epochs asked for.
        base_lr: Learning rate that the trainer's own schedule gives the first epoch, in the parameter group with the
            lowest one; None where it is not known (a replay).
        final_lr: Learning rate that the trainer's own schedule ends with, same group.
        trainer_patience: The trainer's own `patience` argument, in epochs; 0 means that it never stops a run.
        warmup_epochs: Number of epochs at the start in which the learning rate is warmed up; may be a fraction.
        close_mosaic: Number of epochs at the end that go without mosaic and the other mixing augmentations; 0 where
            that never changes.
    """

    planned_epochs: int = 0
    base_lr: float | None = None
    final_lr: float | None = None
    trainer_patience: int = 0
    warmup_epochs: float = 0.0
    close_mosaic: int = 0

    def warms_up(self, epoch: int) -> bool:
        """Return whether the learning rate is still warmed up in an epoch, counted from 1."""
        return epoch - 1 < self.warmup_epochs

    def mosaic_closed(self, record: EpochRecord) -> bool:
        """Return whether mosaic has been switched off by an epoch; not where a run goes without it from the start."""
        return 0 < self.close_mosaic < record.planned_epochs < record.epoch + self.close_mosaic


@dataclass(frozen=True)
class EpochRecord:
    """What is known of one finished epoch.

    Attributes:
        epoch: Number of the epoch, counted from 1 as in `results.csv` and in the progress bar.
        metrics: The trainer's keys (`train/box_loss`, `metrics/mAP50-95(B)`, `val/cls_loss`, `lr/pg0`) and `fitness`.
            Keys of an epoch that was not validated hold only what that epoch measured.
        validated: Whether validation really ran in this epoch.
        planned_epochs: Number of epochs planned when this one ended (it moves with the trainer's `time` argument).
        last: Whether the run ended with it because all that was planned is done.
        base_lr: Learning rate that the trainer's own schedule gave this epoch (lowest group, end of warm-up).
        next_base_lr: The same for the next epoch.
        lr_factor: What the learning rate was multiplied with in this epoch, 1.0 where nobody changed it.
        elapsed: Seconds of training up to here, summed over resumes.
        measures: Seconds, images a second, memory: see `CSVLogger` for the keys.
        planned_before_finish: Number of epochs planned before a finish brought the end forward; 0 where none did.
    """

    epoch: int
    metrics: Mapping[str, float]
    validated: bool = True
    planned_epochs: int = 0
    last: bool = False
    base_lr: float | None = None
    next_base_lr: float | None = None
    lr_factor: float = 1.0
    elapsed: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)
    planned_before_finish: int = 0

    @property
    def whole_epochs(self) -> int:
        """The planned epochs that a share refers to: without a `Finish`, which does not shorten a patience."""
        return self.planned_before_finish or self.planned_epochs


def record_to_json(record: EpochRecord) -> dict[str, Any]:
    """Return plain data that `record_from_json` reads back without loss."""
    return {key: encode_number(value) for key, value in asdict(record).items()}


def record_from_json(data: Mapping[str, Any]) -> EpochRecord:
    """Read back what `record_to_json` wrote."""
    fields = dict(data)
    for key in ("metrics", "measures"):
        fields[key] = {name: decode_number(value) for name, value in fields.get(key, {}).items()}
    for key in ("base_lr", "next_base_lr"):
        fields[key] = decode_number(fields.get(key))
    return EpochRecord(**fields)


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
        done, state = self._folds.get(fold, (-1, None))
        if done < 0:
            state = fold.initial(self.plan)
        if done < len(self._records):  # a replay asks for the same state many times
            for record in self._records[max(done, 0) :]:
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
