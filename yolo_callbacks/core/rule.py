"""Rule: the pure half of a callback. A ledger and a replay know rules only."""

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
    """What decides: a pure function of the history, and what there is to know of it before the first epoch.

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
        """Return the names of the metrics that it looks at; a run that lacks one fails before its first epoch."""
        return ()

    def decide(self, history: History) -> Decisions:
        """Return what should happen after the newest epoch, or None.

        It is called once before the first epoch, with an empty history, and then after each. It must depend on
        nothing but the history (use `history.fold` for anything that runs over all epochs) and change nothing.
        """
        return None

    def counters(self, history: History) -> Mapping[str, float]:
        """Return the numbers worth a column in `epochs.csv`, such as how long there was no improvement."""
        return {}

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return what it can never do in a run that goes as planned: a sentence each, which is told at the start."""
        return ()

    def outputs(self) -> Iterable[str]:
        """Return the files that this callback writes, as paths in the run directory, so that no two write the same."""
        return ()

    def get_config(self) -> dict[str, Any]:
        """Return the parameters that it was built with."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"
