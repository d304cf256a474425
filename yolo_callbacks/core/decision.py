"""Decisions: what a callback can have done after an epoch. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from yolo_callbacks.core.layer_patterns import Layers, check_layers, layers_in_words
from yolo_callbacks.core.stored_fields import checked_fields
from yolo_callbacks.support.checks import check_number
from yolo_callbacks.support.numbers import decode_number, encode_number, plain


class StopReason(str, Enum):
    """Why a run ended before its last planned epoch. Each member equals its string.

    Example:
        >>> StopReason.PLATEAU == "plateau", str(StopReason.PLATEAU)
        (True, 'plateau')
    """

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
    """Ctrl-C was pressed."""
    TRAINER_PATIENCE = "trainer_patience"
    """Ultralytics' own `patience` ran out."""
    PREEMPTED = "preempted"
    """A signal such as SIGTERM asked the process to exit."""
    TIME_LIMIT = "time_limit"
    """Ultralytics' own `time` limit was reached."""
    CANCELLED = "cancelled"
    """The run was cancelled on the Ultralytics Platform."""
    EXTERNAL = "external"
    """Something else set `trainer.stop`, such as another callback."""

    def __str__(self) -> str:
        return self.value

    @property
    def from_outside(self) -> bool:
        """Whether something other than the metrics ended the run, so that it may be worth resuming."""
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
    """The base of all decisions. `Callback.decide` returns its subclasses.

    Attributes:
        message: One sentence for people.
        epoch: The newest finished epoch at the time, counted from 1; 0 before the first epoch. Filled in by the run.
        source: Label of the callback that decided. Filled in by the run.
    """

    message: str
    epoch: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))  # JSON cannot hold numpy's numbers

    @property
    def kind(self) -> str:
        """Name of the kind of decision in the journal, such as `"stop"`."""
        return _KIND_OF[type(self)]

    @property
    def label(self) -> str:
        """A few words for a table or a plot; empty if the decision is not worth a mark."""
        return self.kind

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON can hold it; `decision_from_json` reads it back."""
        return {"kind": self.kind, **{key: encode_number(value) for key, value in asdict(self).items()}}


@dataclass(frozen=True)
class Stop(Decision):
    """Stop training after this epoch.

    Attributes:
        reason: Why.

    Example:
        >>> Stop("no improvement for 5 epochs", reason=StopReason.PLATEAU).label
        'stop (plateau)'
    """

    reason: StopReason = StopReason.REQUESTED

    @property
    def label(self) -> str:
        """The reason."""
        return f"stop ({self.reason})"


@dataclass(frozen=True)
class Finish(Decision):
    """Shorten the run, and let it end as a complete one.

    From the next epoch on, the learning rate falls from its current value in the trainer's schedule to the schedule's
    final value. Mosaic closes `close_mosaic` epochs before the new end. Only the first `Finish` of a run counts, and
    none makes the run longer.

    Attributes:
        end_epoch: The new last epoch, counted from 1.
        planned_epochs: The last epoch planned so far. Filled in by the run.
        base_lr: Learning rate that the trainer's schedule gives the next epoch, in the parameter group with the lowest
            one. The learning rate falls from there. Filled in by the run.

    Raises:
        ValueError: If `end_epoch` is not after `epoch`.

    Example:
        >>> Finish("good enough", epoch=30, end_epoch=40).label
        'finish by epoch 40'
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
        """The new end."""
        return f"finish by epoch {self.end_epoch}"


@dataclass(frozen=True)
class SetLearningRate(Decision):
    """Multiply the trainer's own schedule from the next epoch on.

    Attributes:
        factor: This callback's factor, >= 0. It replaces the callback's previous factor; the factors of several
            callbacks are multiplied.
        min_lr: Lower bound of every group's learning rate, >= 0; 0 for none.
        announce: Whether to log it, if the callback is `verbose`.
        routine: Whether it is one of many, so that plots and tables do not mark it.

    Raises:
        TypeError: If `factor` or `min_lr` is not a number.
        ValueError: If it is negative or not finite.

    Example:
        >>> SetLearningRate("halved", factor=0.5, min_lr=1e-5).label
        'lr factor 0.5'
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
        """The factor, unless it is routine."""
        return "" if self.routine else f"lr factor {self.factor:.3g}"


@dataclass(frozen=True)
class SetFrozen(Decision):
    """Freeze or unfreeze layers from the next epoch on.

    A frozen layer keeps its weights and its BatchNorm statistics. The decision replaces earlier ones of the same
    callback about the same layers.

    Attributes:
        layers: Patterns of parameter or module names, with `*`, `?` and `[]`; a module stands for everything in it.
            None for the backbone of the model's YAML. Also takes a number n >= 1 for the first n layers, one pattern,
            or a list of patterns and layer indices.
        frozen: Whether to freeze them. A layer is frozen as long as any callback wants it frozen.
        lr_factor: Factor on the learning rate of these layers while they are not frozen, >= 0. Factors of several
            decisions about the same layer are multiplied.
        announce: Whether to log it, if the callback is `verbose`.
        routine: Whether it is one of many, so that plots and tables do not mark it.

    Raises:
        TypeError: If `layers` or `lr_factor` has the wrong type.
        ValueError: If `layers` is empty, or `lr_factor` is negative or not finite.

    Example:
        >>> SetFrozen("thawed", layers=["model.22", "model.23"], frozen=False, lr_factor=0.1).label
        'unfroze model.22, model.23 at lr x 0.1'
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
        """The layers and their factor, unless it is routine."""
        factor = "" if self.frozen or self.lr_factor == 1.0 else f" at lr x {self.lr_factor:.3g}"
        return "" if self.routine else f"{'froze' if self.frozen else 'unfroze'} {layers_in_words(self.layers)}{factor}"


@dataclass(frozen=True)
class SaveCheckpoint(Decision):
    """Keep the checkpoint of this epoch as a separate file.

    Attributes:
        file: Path of the file, relative to the run directory or absolute.
        role: `"best"`, `"periodic"`, `"latest"`, `"restore"` or `"backup"`.
        value: Value of the monitored metric; None for a role without a monitor.
        monitor: Name of the monitored metric.
        drop: Files to delete once this one is written.
        weights_only: Whether to leave out the optimizer, as Ultralytics does in its final checkpoints.
        announce: Whether to log it, if the callback is `verbose`.

    Example:
        >>> SaveCheckpoint("new best", file="weights/best-fitness.pt", value=0.5, monitor="fitness").label
        'best -> best-fitness.pt'
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
        """The file of a new best; empty for the other roles."""
        return f"{self.role} -> {self.file.rsplit('/', 1)[-1]}" if self.role == "best" else ""


def is_announced(decision: Decision) -> bool:
    """Return whether to log a decision; `Stop` and `Finish` always are."""
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
        ValueError: If the kind is unknown, as in the journal of a newer version.
        TypeError: If a field has the wrong type, as in a damaged file.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"unknown decision kind {kind!r}, known are {', '.join(_KINDS)}")
    if "reason" in fields:
        fields["reason"] = StopReason(fields["reason"])
    if "drop" in fields:
        fields["drop"] = tuple(fields["drop"])
    for name in ("value", "factor", "min_lr", "base_lr", "lr_factor"):
        if name in fields:
            fields[name] = decode_number(fields[name])
    return checked_fields(_KINDS[kind](**fields))
