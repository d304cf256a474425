"""When the next epoch is worth a validation: the pure part of `ValidationSchedule`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yolo_callbacks.core.record import EpochRecord, Plan

SECONDS = "validation/seconds"
"""The duration of an epoch's validation, among its metrics."""


@dataclass(frozen=True)
class Validations:
    """The validations of a run so far.

    Attributes:
        newest: The newest validated epoch; 0 before the first.
        best: The best fitness so far; None before the first.
        improved: Whether the newest validation brought it.
        seconds: Duration of all validations whose duration is known.
        last_seconds: Duration of the newest of them; 0 if none is known.
        epoch_seconds: Duration of the newest epoch without its validation.
        elapsed: Seconds of training so far.
    """

    newest: int = 0
    best: float | None = None
    improved: bool = False
    seconds: float = 0.0
    last_seconds: float = 0.0
    epoch_seconds: float = 0.0
    elapsed: float = 0.0

    def fits(self, budget: float) -> bool:
        """Return whether one more validation, in the next epoch, keeps all of them within a share of the run's time."""
        after = self.elapsed + self.epoch_seconds + self.last_seconds
        return self.seconds + self.last_seconds <= budget * after


@dataclass(frozen=True)
class ValidationsFold:
    """Follows the validations of a run, and their durations."""

    def initial(self, plan: Plan) -> Validations:
        """Return the state before the first epoch."""
        return Validations()

    def step(self, state: Validations, record: EpochRecord) -> Validations:
        """Return the state after one more epoch."""
        took = record.metrics.get(SECONDS, 0.0) if record.validated else 0.0
        state = replace(
            state,
            seconds=state.seconds + took,
            last_seconds=took or state.last_seconds,
            epoch_seconds=max(0.0, record.elapsed - state.elapsed - took),
            elapsed=record.elapsed,
        )
        if not record.validated:
            return state
        value = record.metrics.get("fitness")
        improved = value is not None and (state.best is None or value > state.best)
        return replace(state, newest=record.epoch, best=value if improved else state.best, improved=improved)
