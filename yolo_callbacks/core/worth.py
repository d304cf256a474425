"""How much a validation of the next epoch is worth: the rule behind `ValidationSchedule(every="auto")`.

`docs/validation.md` shows its results on real curves, `benchmarks/validation_schedule.py` measures them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from yolo_callbacks.core.forecast import fit_line
from yolo_callbacks.core.record import EpochRecord, Plan

_WINDOW, _AT_LEAST = 0.2, 6  # of the straight line: share of the planned epochs, and minimum in validated epochs
_LEAST_NOISE = 1e-4  # metrics are rounded to 5 decimals


@dataclass(frozen=True)
class WorthConstants:
    """The constants of the rule, from `benchmarks/validation_schedule.py`.

    Attributes:
        enough: Accumulated worth after which an epoch is validated, in units of fitness.
        longest_gap: Largest distance between validations, as a share of the planned epochs.
        memory: Share of a deviation from the trend that is left one epoch later, in (0, 1).
        noise: Deviations of the next epoch, in multiples of the noise.
        trend: Share of the trend that continues.
        records: How far the best remaining epoch stands out of the noise, relative to independent epochs.
        doubt: Uncertainty of the best remaining epoch, in multiples of the noise.
        trend_doubt: The same in multiples of the trend.
    """

    enough: float = 0.0012
    longest_gap: float = 0.08
    memory: float = 0.5
    noise: float = 1.7
    trend: float = 0.7
    records: float = 0.5
    doubt: float = 1.0
    trend_doubt: float = 0.2


@dataclass(frozen=True)
class Worth:
    """The state of the fold.

    Attributes:
        epochs: Validated epochs in the window, oldest first.
        values: Their fitness.
        best: Best fitness so far.
        line: Level of the trend line in the newest validated epoch, slope over the logarithm of the epoch, noise.
        accumulated: Worth of the epochs since the newest validation, the next one included.
        worth_it: Whether to validate the next epoch.
    """

    epochs: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    best: float = -math.inf
    line: tuple[float, float, float] | None = None
    accumulated: float = 0.0
    worth_it: bool = True


@dataclass(frozen=True)
class WorthFold:
    """Decides after each epoch whether a validation of the next one is worth it.

    What a validation is worth is how far the epoch may be expected to beat the best fitness so far, times the
    probability that no later epoch beats it: an epoch of a rising curve sets a record that the end will break, and one
    of a falling curve sets none. A straight line through the validated epochs of the last fifth of the plan, over the
    logarithm of the epoch, gives level, trend and noise; the newest deviation from the line fades from epoch to epoch,
    because good epochs come in clusters. The worth accumulates over skipped epochs, and one is validated when the sum
    is `enough`.

    Sources: the expected gain is the expected improvement of Bayesian optimization (Jones et al., 1998); line and best
    remaining epoch are those of `ForecastFold`.

    Attributes:
        constants: The constants of the rule.
    """

    constants: WorthConstants = WorthConstants()

    def initial(self, plan: Plan) -> Worth:
        """Return the state before the first epoch."""
        return Worth()

    def step(self, state: Worth, record: EpochRecord) -> Worth:
        """Return the state after one more epoch."""
        planned, value = record.planned_epochs, record.metrics.get("fitness")
        if value is not None and math.isfinite(value):
            state = self._after_validation(state, record.epoch, value, planned)
        if not state.epochs or record.epoch >= planned:
            return replace(state, worth_it=True)
        gap, longest = record.epoch + 1 - state.epochs[-1], max(2, round(self.constants.longest_gap * planned))
        if state.line is None:  # too early for a trend
            return replace(state, worth_it=gap >= max(1, longest // 2))
        total = state.accumulated + self._worth(state, record.epoch + 1, planned)
        return replace(state, accumulated=total, worth_it=gap >= longest or total >= self.constants.enough)

    @staticmethod
    def _after_validation(state: Worth, epoch: int, value: float, planned: int) -> Worth:
        epochs, values = (*state.epochs, epoch), (*state.values, value)
        first = min(len(epochs) - _AT_LEAST, sum(item < epoch - _WINDOW * planned for item in epochs))
        epochs, values = epochs[max(0, first) :], values[max(0, first) :]
        line = fit_line(epochs, values) if len(epochs) >= _AT_LEAST else None
        return Worth(epochs, values, max(state.best, value), line)

    def _worth(self, state: Worth, epoch: int, planned: int) -> float:
        """Return what a validation of an epoch is worth, in units of fitness."""
        assert state.line is not None
        constants, (level, slope, noise) = self.constants, state.line
        newest, best, noise = state.epochs[-1], state.best, max(noise, _LEAST_NOISE)
        trend = slope * math.log(planned / epoch)
        here = level + slope * math.log(epoch / newest)
        expected = here + (state.values[-1] - level) * constants.memory ** (epoch - newest)
        later = math.sqrt(2 * math.log(max(2, planned - epoch + 1)))
        end = expected + constants.trend * trend + constants.records * noise * later
        doubt = math.hypot(constants.doubt * noise, constants.trend_doubt * trend)
        gain = _expected_gain(expected, constants.noise * noise, best)
        return gain * _student_t((max(best, expected + noise) - end) / doubt)


def _expected_gain(mean: float, deviation: float, goal: float) -> float:
    """Return the mean of `max(0, X - goal)` for a normal X."""
    z = (mean - goal) / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return deviation * (z * math.erfc(-z / math.sqrt(2)) / 2 + density)


def _student_t(z: float) -> float:
    """Return the probability that a Student-t variable with 4 degrees of freedom is below z."""
    u = z / math.sqrt(1 + z * z / 4)
    return 0.5 + 0.375 * u * (1 - u * u / 12)
