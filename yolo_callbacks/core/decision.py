"""What can be decided after an epoch. Plain data: no trainer, no torch, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from yolo_callbacks.core.layer_patterns import Layers, check_layers, spelt
from yolo_callbacks.support.checks import check_number
from yolo_callbacks.support.numbers import decode_number, encode_number, plain


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
    PREEMPTED = "preempted"
    """A signal asked the process to leave."""
    TIME_LIMIT = "time_limit"
    """Ultralytics' own `time` limit was reached."""
    CANCELLED = "cancelled"
    """Somebody cancelled the run from the Ultralytics Platform."""
    EXTERNAL = "external"
    """Something else set `trainer.stop`, such as another callback."""

    def __str__(self) -> str:
        return self.value

    @property
    def from_outside(self) -> bool:
        """Whether the run itself could have gone on."""
        return self in _FROM_OUTSIDE


_FROM_OUTSIDE = {
    StopReason.REQUESTED,
    StopReason.INTERRUPTED,
    StopReason.PREEMPTED,
    StopReason.TIME_LIMIT,
    StopReason.CANCELLED,
    StopReason.EXTERNAL,
}


@dataclass(frozen=True)
class Decision:
    """Something decided after an epoch. Use one of the subclasses.

    Attributes:
        message: One sentence for people.
        epoch: The finished epoch after which it was decided, counted from 1; 0 means before the first. Filled in by
            the run.
        source: Label of the callback that decided; filled in by the run.
    """

    message: str
    epoch: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))  # JSON cannot hold a number of numpy

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
        return {"kind": self.kind, **{key: encode_number(value) for key, value in asdict(self).items()}}


@dataclass(frozen=True)
class Stop(Decision):
    """End the training after this epoch."""

    reason: StopReason = StopReason.REQUESTED

    @property
    def label(self) -> str:
        """Name the reason."""
        return f"stop ({self.reason})"


@dataclass(frozen=True)
class Finish(Decision):
    """Bring the end of the run forward, and let it end there as it would have at its planned end.

    From the next epoch on the learning rate goes from where the trainer's schedule stands to the schedule's last
    value, mosaic is closed in good time, and the run then ends as one whose epochs are done. The first one of a run
    counts, and it never moves the end to later.

    Attributes:
        end_epoch: The last epoch, counted from 1.
        planned_epochs: The last epoch as it was planned until now; filled in by the run.
        base_lr: Learning rate that the trainer's schedule gives the next epoch, in the parameter group with the lowest
            one: where the way down begins; filled in by the run.

    Raises:
        ValueError: If the end is not after the epoch.
    """

    end_epoch: int = 0
    planned_epochs: int = 0
    base_lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end_epoch <= self.epoch:
            raise ValueError(f"end_epoch={self.end_epoch!r} must be after epoch {self.epoch}, which is done")

    @property
    def label(self) -> str:
        """Name the end."""
        return f"finish by epoch {self.end_epoch}"


@dataclass(frozen=True)
class SetLearningRate(Decision):
    """Multiply the trainer's own schedule from the next epoch on.

    Attributes:
        factor: This source's factor from now on; it replaces the source's last one and multiplies everybody else's.
        min_lr: Lower bound of the learning rate of every group from now on; 0 for none.
        announce: Whether it is worth a line in the log, where the callback is `verbose`.
        routine: Whether it is one of many, which are not worth a mark in plots and tables.

    Raises:
        TypeError: If a number is not one.
        ValueError: If it is negative or not finite.
    """

    factor: float = 1.0
    min_lr: float = 0.0
    announce: bool = field(default=True, compare=False)
    routine: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("factor", self.factor, minimum=0.0)
        check_number("min_lr", self.min_lr, minimum=0.0)

    @property
    def label(self) -> str:
        """Name the factor, unless it is routine."""
        return "" if self.routine else f"lr factor {self.factor:.3g}"


@dataclass(frozen=True)
class SetFrozen(Decision):
    """Freeze layers from the next epoch on, or let them learn (again), at a rate of their own if wanted.

    A frozen layer keeps its weights and its BatchNorm statistics. What this source says of some layers replaces what
    it has said of the same layers before.

    Attributes:
        layers: Which: patterns of names of parameters or modules, with `*`, `?` and `[]`, a module with all that is
            in it; None for the backbone of the model's YAML.
        frozen: Whether they are frozen. A layer stays frozen as long as any source wants it frozen.
        lr_factor: What the learning rate of these layers is multiplied with while they learn; the factors of several
            sources, and of a source for several choices of layers, multiply.
        announce: Whether it is worth a line in the log, where the callback is `verbose`.
        routine: Whether it is one of many, which are not worth a mark in plots and tables.
    """

    layers: Layers = None
    frozen: bool = True
    lr_factor: float = 1.0
    announce: bool = field(default=True, compare=False)
    routine: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("lr_factor", self.lr_factor, minimum=0.0)
        object.__setattr__(self, "layers", check_layers(self.layers))

    @property
    def label(self) -> str:
        """Name the layers, and the factor."""
        factor = "" if self.frozen or self.lr_factor == 1.0 else f" at lr x {self.lr_factor:.3g}"
        return "" if self.routine else f"{'froze' if self.frozen else 'unfroze'} {spelt(self.layers)}{factor}"


@dataclass(frozen=True)
class SaveCheckpoint(Decision):
    """Keep the checkpoint of this epoch under a name of its own.

    Attributes:
        file: Where, relative to the run directory (or absolute, where the user asked for that).
        role: `best`, `periodic`, `latest`, `restore` or `backup`.
        value: What the monitor saw, None for a role that looks at none.
        monitor: Name of the monitored metric.
        drop: Files that this one replaces; they go only after this one is safe.
        weights_only: Whether to drop the optimizer, as Ultralytics does with its own at the end.
        announce: Whether it is worth a line in the log, where the callback is `verbose`.
    """

    file: str = ""
    role: str = "best"
    value: float | None = None
    monitor: str = ""
    drop: tuple[str, ...] = ()
    weights_only: bool = False
    announce: bool = field(default=True, compare=False)

    @property
    def label(self) -> str:
        """Name the file of a new best; the other roles are no news."""
        return f"{self.role} -> {self.file.rsplit('/', 1)[-1]}" if self.role == "best" else ""


def is_announced(decision: Decision) -> bool:
    """Return whether a decision is worth a line in the log; `Stop` and `Finish` always are."""
    return not isinstance(decision, (SetLearningRate, SetFrozen, SaveCheckpoint)) or decision.announce


_KINDS: dict[str, type[Decision]] = {
    "stop": Stop,
    "finish": Finish,
    "set_learning_rate": SetLearningRate,
    "set_frozen": SetFrozen,
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
