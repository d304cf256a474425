"""Participant: what a session expects of a callback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Generic, TypeVar

from yolo_callbacks.core.rule import Rule

S = TypeVar("S")


class Participant(Rule, Generic[S]):
    """A rule with effects. `S` is the session that it takes part in."""

    replaces: ClassVar[str] = ""
    """The Ultralytics integration that it replaces, such as `"tensorboard"`; it is switched off for the run."""

    @property
    def state_every_n_epochs(self) -> int:
        """How often the whole state of the training is saved for it, so that a resume is exact; 0 for never."""
        return 0

    @property
    def state_at_end(self) -> bool:
        """Whether this state is saved after the last epoch, too, so that the run can be extended from it."""
        return False

    # ------------------------------------------------------------------------------------------------- measuring

    def measures(self, session: S) -> Iterable[str]:
        """Return the names that `measure` will return; called once before the first epoch.

        They get a column from the first row on, and can be monitored like any other metric. Use names with a `/`, such
        as `"gradients/norm"`, so that they cannot be mistaken for the trainer's metrics.
        """
        return ()

    def measure(self, session: S) -> Mapping[str, float]:
        """Return numbers for the epoch that has just been trained and validated, before any decision.

        They become part of its record, and so of the journal; a missing name was not measured in this epoch.
        """
        return {}

    # ------------------------------------------------------------------------------------------------- effects

    def setup(self, session: S) -> None:
        """Training is about to start, or to resume.

        Raises:
            UnknownMetricError: If it is to report a metric that the run will not have; the run does not start.
        """

    def act(self, session: S) -> None:
        """An epoch is complete, and its decisions are in force."""

    def close(self, session: S, error: BaseException | None) -> None:
        """Training has ended; `error` is the exception that ended it, or None."""

    def deliver(self, session: S, error: BaseException | None) -> None:
        """Every file of the run is complete, including `run.json`. For callbacks that copy or upload files."""

    # ------------------------------------------------------------------------------------------------- events

    def overrides(self, event: str) -> bool:
        """Return whether the class overrides the method of this event."""
        return False
