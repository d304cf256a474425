"""Rule: the pure half of a callback, and all that a ledger or a replay needs of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Union

from yolo_callbacks.core.decision import Decision
from yolo_callbacks.core.record import History, Plan

Decisions = Union[Decision, Iterable[Decision], None]


class Priority(IntEnum):
    """Order within an epoch, lowest first: who reports sees what was decided in the same epoch."""

    MEASURE = 0
    DECIDE = 100
    CHECKPOINT = 200
    REPORT = 300


class Rule:
    """Decides after each epoch, as a pure function of the history.

    Every parameter of `__init__` must be kept in an attribute of the same name: `get_config` and `repr` read it there.
    """

    priority: ClassVar[Priority] = Priority.REPORT
    """When its steps are called, among those of the other callbacks."""

    critical: ClassVar[bool] = False
    """Whether an error in a step, such as `measure` or `act`, ends the training; else it is logged once.

    It should where the course of the run depends on the callback: a wrong decision is worse than a stopped run. An
    error in `decide`, or in an event's own method, always ends the training.

    A class that sets its `priority`, but not this, is critical if it comes before `Priority.REPORT`.
    """

    function_parameters: ClassVar[tuple[str, ...]] = ()
    """Parameters that must be functions, which no configuration file can hold."""

    verbose: int = 1
    """Whether its decisions are logged, 0 for not."""

    restore_best_weights: bool = False
    """Whether it chooses the weights that the model is left with; only one callback of a run can."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        nearest = next(base for base in cls.__mro__ if {"priority", "critical"} & vars(base).keys())
        if "critical" not in vars(nearest):
            cls.critical = cls.priority < Priority.REPORT

    def needs(self) -> Iterable[str]:
        """Return the names of the metrics that it needs; a run without one of them fails before its first epoch."""
        return ()

    def decide(self, history: History) -> Decisions:
        """Return what should happen after the newest epoch: a decision, several, or None.

        It is called once before the first epoch, with an empty history, and then after each epoch. It must depend only
        on the history and change nothing. Use `history.fold` for anything that accumulates over the epochs.
        """
        return None

    def can_skip_validation(self, history: History) -> bool:
        """Return whether the next epoch need not be validated, as far as this callback is concerned. Pure, as `decide`.

        An epoch is trained without validation if one callback returns True and none `needs_validation`. The last
        epoch, and one in which the run is asked to stop, are validated in any case.
        """
        return False

    def needs_validation(self, history: History) -> bool:
        """Return whether it may decide something by the next epoch's metrics, so that they must be measured. Pure."""
        return False

    def counters(self, history: History) -> Mapping[str, float]:
        """Return numbers that get a column in `epochs.csv`, such as the epochs without improvement."""
        return {}

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return one sentence for each thing that it can never do under this plan; they are logged at the start."""
        return ()

    def may_stop(self, plan: Plan) -> bool:
        """Return whether it may end a run with this plan early; the time that is left is then "at most" so long."""
        return False

    def validations(self, history: History, end: int) -> float | None:
        """Return how many of the epochs from the next one to epoch `end` are expected to be validated.

        None if it does not say; the time that is left is then estimated from the newest epochs.
        """
        return None

    def outputs(self) -> Iterable[str]:
        """Return the files that it writes, relative to the run directory; no two callbacks may write the same."""
        return ()

    def get_config(self) -> dict[str, Any]:
        """Return the parameters of its `__init__`."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"
