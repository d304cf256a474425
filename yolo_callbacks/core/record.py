"""The records of a run: its plan, one record per epoch, and the history of these records. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar, overload

from yolo_callbacks.core.extension import Extension, extension_from_json
from yolo_callbacks.core.stored_fields import checked_fields
from yolo_callbacks.support.numbers import decode_number, encode_number

S = TypeVar("S")

MIXING = ("mosaic", "mixup", "cutmix", "copy_paste")
"""The augmentations that `close_mosaic` switches off."""


def warm_up(asked: float, planned_epochs: int) -> float:
    """Return the number of warm-up epochs; as in Ultralytics, at least one epoch is not part of it."""
    return float(max(0, min(asked, planned_epochs - 1)))


@dataclass(frozen=True)
class Plan:
    """The plan of a run, known before its first epoch.

    Attributes:
        planned_epochs: Number of planned epochs; 0 if unknown.
        base_lr: Learning rate of the first epoch in the trainer's own schedule, in the parameter group with the
            lowest one; None if unknown, as in a replay.
        final_lr: Learning rate at the end of the trainer's own schedule, in the same group; None if unknown.
        trainer_patience: The trainer's own `patience`, in epochs; 0 means that it never stops a run.
        warmup_epochs: Number of warm-up epochs at the start, not always whole.
        close_mosaic: Number of epochs at the end without mosaic and the other mixing augmentations; 0 if these do not
            change during the run.
        extensions: The parts that were added to the run, oldest first; empty for most.

    Example:
        >>> plan = Plan(planned_epochs=100, warmup_epochs=3.0)
        >>> plan.warms_up(3), plan.warms_up(4)
        (True, False)
    """

    planned_epochs: int = 0
    base_lr: float | None = None
    final_lr: float | None = None
    trainer_patience: int = 0
    warmup_epochs: float = 0.0
    close_mosaic: int = 0
    extensions: tuple[Extension, ...] = ()

    def extension_of(self, epoch: int) -> Extension | None:
        """Return the extension that an epoch, counted from 1, is part of; None if it is part of the original run."""
        return next((item for item in reversed(self.extensions) if item.after < epoch), None)

    def start_of(self, epoch: int) -> int:
        """Return the number of epochs before the part of the run that an epoch, counted from 1, is in."""
        extension = self.extension_of(epoch)
        return extension.after if extension is not None else 0

    def extended_after(self, epoch: int) -> bool:
        """Return whether the run was extended after an epoch, so that whatever ended it there is void."""
        return any(item.after == epoch for item in self.extensions)

    def warms_up(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 1, is part of the warm-up, or of that of an extension."""
        extension = self.extension_of(epoch)
        again = extension is not None and epoch - extension.after <= extension.warmup_epochs
        return epoch - 1 < self.warmup_epochs or again

    def mosaic_closed(self, record: EpochRecord) -> bool:
        """Return whether mosaic is closed in this epoch; False in a run, or an extension, that never uses it."""
        extension = self.extension_of(record.epoch)
        if extension is not None and extension.mosaic_closed:
            return False
        with_mosaic = record.planned_epochs - (extension.after if extension is not None else 0)
        return 0 < self.close_mosaic < with_mosaic and record.planned_epochs < record.epoch + self.close_mosaic


def plan_from_json(data: Mapping[str, Any]) -> Plan:
    """Read back what `plan_to_json` wrote.

    Raises:
        TypeError, ValueError, AttributeError: If it is something else.
    """
    fields = {name: decode_number(value) for name, value in data.items() if name != "extensions"}
    extensions = tuple(extension_from_json(item) for item in data.get("extensions", ()))
    return checked_fields(Plan(**fields, extensions=extensions))


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON can hold it; as always where there is no extension."""
    data = asdict(plan)
    if not plan.extensions:
        del data["extensions"]
    return data


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch.

    Attributes:
        epoch: Number of the epoch, counted from 1 as in `results.csv` and in the progress bar.
        metrics: Values by the trainer's keys (`train/box_loss`, `metrics/mAP50-95(B)`, `val/cls_loss`, `lr/pg0`), and
            `fitness`. An epoch without validation has only what was measured in it.
        validated: Whether validation ran in this epoch.
        planned_epochs: Number of planned epochs when this one ended; the trainer's `time` argument changes it.
        last: Whether this was the last planned epoch.
        base_lr: Learning rate of this epoch in the trainer's own schedule (group with the lowest one, after warm-up);
            None if unknown.
        next_base_lr: The same for the next epoch.
        lr_factor: Factor of the callbacks on the learning rate of this epoch; 1.0 for none.
        elapsed: Seconds of training so far, summed over resumes.
        measures: Duration, speed and memory, and what callbacks measured; `CSVLogger` lists the keys.
        planned_before_finish: Number of planned epochs before a `Finish` shortened the run; 0 if none did.

    Example:
        >>> EpochRecord(epoch=1, metrics={"fitness": 0.5, "val/box_loss": 1.25}).metrics["fitness"]
        0.5
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
        """The number of planned epochs without a `Finish`; shares such as `patience=0.3` refer to it."""
        return self.planned_before_finish or self.planned_epochs


def record_to_json(record: EpochRecord) -> dict[str, Any]:
    """Return a record as JSON can hold it; `record_from_json` reads it back without loss."""
    return {key: encode_number(value) for key, value in asdict(record).items()}


def record_from_json(data: Mapping[str, Any]) -> EpochRecord:
    """Read back what `record_to_json` wrote.

    Raises:
        TypeError, ValueError, AttributeError: If it is something else.
    """
    fields = dict(data)
    for key in ("metrics", "measures"):
        fields[key] = {name: decode_number(value) for name, value in fields.get(key, {}).items()}
    for key in ("base_lr", "next_base_lr", "lr_factor", "elapsed"):
        if key in fields:
            fields[key] = decode_number(fields[key])
    record = checked_fields(EpochRecord(**fields))
    if record.epoch < 1:
        raise ValueError(f"epoch is {record.epoch}")
    return record


class Fold(Protocol[S]):
    """A pure left fold over the records of a run. Must be hashable and equal to its copies."""

    def initial(self, plan: Plan) -> S:
        """Return the state before the first epoch."""

    def step(self, state: S, record: EpochRecord) -> S:
        """Return the state after one more epoch."""


class History(Sequence[EpochRecord]):
    """The epochs of a run so far, oldest first, and its plan.

    Epochs are only appended, so `fold` continues from its last state: it costs the same at epoch 10 and at epoch
    10,000, and is still a pure function of the records.

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
            ValueError: If its number is not higher than that of the last one.
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
        return f"History({len(self)} of {self.plan.planned_epochs} epochs)"
