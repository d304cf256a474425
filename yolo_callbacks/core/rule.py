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
    """Order within an epoch, lowest first: a reporter sees what a controller decided in the same epoch.

    An error in a callback up to `CHECKPOINT` raises; see `is_controller`.
    """

    MEASURE = 0
    DECIDE = 100
    CHECKPOINT = 200
    REPORT = 300


class Rule:
    """Decides after each epoch, as a pure function of the history.

    Every parameter of `__init__` must be kept in an attribute of the same name: `get_config` and `repr` read it there.
    """

    priority: ClassVar[Priority] = Priority.REPORT

    def needs(self) -> Iterable[str]:
        """Return the names of the metrics that it needs; a run without one of them fails before its first epoch."""
        return ()

    def decide(self, history: History) -> Decisions:
        """Return what should happen after the newest epoch: a decision, several, or None.

        It is called once before the first epoch, with an empty history, and then after each epoch. It must depend only
        on the history and change nothing. Use `history.fold` for anything that accumulates over the epochs.
        """
        return None

    def counters(self, history: History) -> Mapping[str, float]:
        """Return numbers that get a column in `epochs.csv`, such as the epochs without improvement."""
        return {}

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return one sentence for each thing that it can never do under this plan; they are logged at the start."""
        return ()

    def outputs(self) -> Iterable[str]:
        """Return the files that it writes, relative to the run directory; no two callbacks may write the same."""
        return ()

    def get_config(self) -> dict[str, Any]:
        """Return the parameters of its `__init__`."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"


def is_controller(rule: Rule) -> bool:
    """Return whether the course of the run depends on a callback: all do, up to `Priority.CHECKPOINT`.

    An error in a controller raises, because a wrong decision is worse than a stopped run. An error in a reporter's
    `measure`, `counters`, `setup`, `act`, `close` or `deliver` is logged once, and training goes on; one in `decide`,
    or in an event's own method, raises in both.
    """
    return rule.priority < Priority.REPORT


def logs_decisions(rule: Rule | None) -> bool:
    """Return whether a callback's decisions are logged: unless it has a `verbose`, and that is 0.

    Those of nobody, such as a stop from outside, are always logged.
    """
    return bool(getattr(rule, "verbose", True))
