"""Participant: what a session expects of a callback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from yolo_callbacks.core.rule import Rule

S = TypeVar("S")


@dataclass(frozen=True)
class Alert:
    """Trouble that people should hear of while the run goes on.

    Attributes:
        event: What it is, as a name: `"stall"`, or `"went_on"` when it is over.
        message: One sentence.
        seconds: How long it has lasted.
    """

    event: str
    message: str
    seconds: float


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

    def measure_after_save(self, session: S) -> Mapping[str, float]:
        """Return further numbers of the epoch that are known only when its checkpoint is saved.

        If the process dies while saving, a resumed run continues without them.
        """
        return {}

    def between_batches(self) -> None:
        """A batch of an `ExtraValidation` is done. It sends no events, so that nobody takes it for the trainer's own.

        Called on rank 0. `SystemExit` ends the run; any other error ends only that validation.
        """

    # ------------------------------------------------------------------------------------------------- effects

    def setup(self, session: S) -> None:
        """Training is about to start, or to resume.

        Raises:
            SettingError: If its settings do not fit the run, such as a metric that the run will not have (an
                `UnknownMetricError`); the run does not start.
        """

    def act(self, session: S) -> None:
        """An epoch is complete, and its decisions are in force."""

    def alert(self, session: S, alert: Alert) -> None:
        """Another callback has found trouble. For callbacks that send messages; called from any thread."""

    def close(self, session: S, error: BaseException | None) -> None:
        """Training has ended; `error` is the exception that ended it, or None."""

    def deliver(self, session: S, error: BaseException | None) -> None:
        """Every file of the run is complete, including `run.json`. For callbacks that copy or upload files."""

    # ------------------------------------------------------------------------------------------------- events

    def overrides(self, event: str) -> bool:
        """Return whether the class overrides the method of this event."""
        return False
