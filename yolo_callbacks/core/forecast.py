"""Forecast: how much the rest of a run is expected to improve a metric.

The rule behind `EarlyStopping(patience="auto")`. `docs/stopping.md` derives it and shows its results on real curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from yolo_callbacks.core.epochs import epochs_in_words
from yolo_callbacks.core.monitor import Monitor
from yolo_callbacks.core.record import EpochRecord, Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AUTO = "auto"

_LONG, _AT_LEAST = 0.25, 10  # the long window: share of the planned epochs, and minimum in epochs
_SHORT, _AT_LEAST_SHORT = 0.1, 6  # the same of the short window
_STUCK_AFTER = 0.5  # share of the planned epochs after which a metric that has never moved is given up


@dataclass(frozen=True)
class Constants:
    """The constants of the forecast, rounded from the fit of `benchmarks/fit_forecast.py` to real curves.

    Attributes:
        trend: Share of the trend that continues.
        records: How far the best of the remaining epochs stands out of the noise, relative to independent epochs.
        noise: Uncertainty, in multiples of the noise.
        doubt: Uncertainty, in multiples of the trend.
        surprise: Uncertainty that no trend predicts, as a share of the progress, if all epochs remained. The fit gives
            0; a small value keeps the forecast of a run without noise from being certain.
    """

    trend: float = 0.4
    records: float = 0.7
    noise: float = 1.7
    doubt: float = 0.3
    surprise: float = 0.01


@dataclass(frozen=True)
class Signals:
    """The inputs of a forecast, in units of the metric (negated if lower is better).

    Attributes:
        level: Value of the trend line now.
        trend: Rise of the trend line until the last planned epoch.
        noise: Standard deviation of the values around the trend line.
        progress: Difference between the best value and the worst one of the first window.
        best: Best value so far.
        remaining: Number of remaining epochs, >= 1.
        planned: Number of planned epochs.
    """

    level: float
    trend: float
    noise: float
    progress: float
    best: float
    remaining: int
    planned: int

    @property
    def records(self) -> float:
        """How far the highest of the remaining epochs would stand out of the noise if they were independent."""
        return self.noise * math.sqrt(2 * math.log(self.remaining))

    def centre(self, constants: Constants) -> float:
        """Return the centre of the distribution of the highest remaining value."""
        return self.level + constants.trend * self.trend + constants.records * self.records

    def scale(self, constants: Constants) -> float:
        """Return the scale of the distribution of the highest remaining value."""
        return math.hypot(
            constants.noise * self.noise,
            constants.doubt * self.trend,
            constants.surprise * self.progress * self.remaining / self.planned,
        )


@dataclass(frozen=True)
class Forecast:
    """The state of the fold: the newest values, and the forecast.

    Attributes:
        plan: The plan of the run.
        epochs: Epochs of the long window, oldest first.
        values: Their values, negated if lower is better.
        best: Best value so far.
        worst: Worst value of the first window.
        count: Number of values so far.
        signals: Inputs of the forecast by the long and by the short window; empty if there is no forecast.
        expected_gain: How far the best remaining value is expected to beat the best value so far, as a share of the
            progress, >= 0. 0 if the metric has not moved in half of the planned epochs. None if it is too early for a
            forecast, or mosaic is closed.
        record: Whether the newest value is the best so far.
    """

    plan: Plan
    epochs: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    best: float | None = None
    worst: float = math.nan
    count: int = 0
    signals: tuple[Signals, ...] = ()
    expected_gain: float | None = None
    record: bool = False


@dataclass(frozen=True)
class ForecastFold:
    """Forecasts, after each epoch, how far the rest of the run will beat the best value of a monitored metric.

    The highest remaining value is modelled as Student-t distributed with 4 degrees of freedom, with the centre

        level + 0.4 * trend + 0.7 * noise * sqrt(2 ln m)

    and the scale `sqrt((1.7 * noise)^2 + (0.3 * trend)^2 + (0.01 * progress * m / N)^2)`, where `m` of `N` epochs
    remain. A straight line through the last quarter of the planned epochs, over the logarithm of the epoch, gives the
    level (its value now), the trend (its rise until the last epoch) and the noise (the standard deviation around it).
    The expected gain is the mean excess over the best value so far. It is computed for the last tenth as well, and
    the larger gain counts, so that a curve that has just turned upwards is not given up.

    Sources: the straight line over log time is the simplest form of the power law of learning curves (Domhan et al.,
    IJCAI 2015); `sqrt(2 ln m)` is the extreme-value bound on the highest of m normal values; the expected gain is the
    expected improvement of Bayesian optimization (Jones et al., 1998), with the Student-t of Shah et al. (2014). The
    constants are a maximum-likelihood fit to public training curves; see `docs/stopping.md`.

    Attributes:
        monitor: The monitored metric; a gain counts from its `min_delta` on.
        start_from_epoch: Number of epochs at the start that do not count, >= 0.
        constants: The constants of the forecast.
    """

    monitor: Monitor
    start_from_epoch: int = 0
    constants: Constants = Constants()

    def initial(self, plan: Plan) -> Forecast:
        """Return the state before the first epoch."""
        return Forecast(plan)

    def step(self, state: Forecast, record: EpochRecord) -> Forecast:
        """Return the state after one more epoch."""
        value = self.monitor.value(record)
        if value is None or not math.isfinite(value) or record.epoch <= self.start_from_epoch:
            return replace(state, signals=(), expected_gain=None, record=False)
        value = value if self.monitor.mode == "max" else -value
        size = _window(record.planned_epochs)
        leads = state.best is None or value > state.best
        start, skipped = state.plan.start_of(record.epoch), self._skipped(state.plan)
        if start and (extension := state.plan.extension_of(record.epoch)) is not None:
            skipped = extension.warmup_epochs
        full = record.epoch - start >= size + skipped
        old = 0 if state.epochs and state.epochs[-1] > start else len(state.epochs)  # an extension has its own trend
        now = Forecast(
            plan=state.plan,
            epochs=(*state.epochs[old:], record.epoch)[-size:],
            values=(*state.values[old:], value)[-size:],
            best=value if leads else state.best,
            worst=value if state.best is None else min(state.worst, value) if state.count < size else state.worst,
            count=state.count + 1,
            record=leads,
        )
        if not full or len(now.values) < _AT_LEAST or state.plan.mosaic_closed(record):
            return now
        if now.best == now.worst:  # no progress to compare with
            stuck = record.planned_epochs > 0 and record.epoch >= _STUCK_AFTER * record.planned_epochs
            return replace(now, expected_gain=0.0 if stuck else None)
        if record.epoch >= record.planned_epochs:  # no epoch remains
            return now
        short = max(_AT_LEAST_SHORT, round(_SHORT * record.planned_epochs))
        signals = tuple(_signals(now, record, length) for length in (size, short))
        return replace(now, signals=signals, expected_gain=max(self.gain(one) for one in signals))

    def out_of_reach(self, plan: Plan, last: int) -> str | None:
        """Return why there can be no forecast in time; None if there can be, or if the run's length is unknown.

        Args:
            plan: The plan of the run.
            last: The last epoch in which a forecast makes a difference.
        """
        planned, first = plan.planned_epochs, _window(plan.planned_epochs) + self._skipped(plan)
        with_mosaic = planned - plan.close_mosaic if 0 < plan.close_mosaic < planned else planned
        if not planned or first <= min(last, with_mosaic):
            return None
        closed = f" and makes no forecast once mosaic has closed (after epoch {with_mosaic})" * (with_mosaic < planned)
        return (
            f"patience='auto' cannot end this run: it needs {first} of the {epochs_in_words(planned)}{closed}; "
            "train longer, or set patience to a number of epochs"
        )

    def _skipped(self, plan: Plan) -> int:
        """Return the number of epochs at the start that are left out of the trend."""
        return max(math.ceil(plan.warmup_epochs), self.start_from_epoch)

    def gain(self, signals: Signals) -> float:
        """Return the expected gain by the signals of one window."""
        goal = signals.best + self.monitor.delta(signals.best)
        return expected_excess(signals.centre(self.constants), signals.scale(self.constants), goal) / signals.progress


def _window(planned_epochs: int) -> int:
    """Return the length of the long window in epochs."""
    return max(_AT_LEAST, round(_LONG * planned_epochs))


def _signals(state: Forecast, record: EpochRecord, length: int) -> Signals:
    """Return the signals of the last `length` epochs that have a value."""
    planned, best = record.planned_epochs, state.best
    assert best is not None  # a full window has values
    level, slope, noise = fit_line(state.epochs[-length:], state.values[-length:])
    trend = slope * math.log(planned / record.epoch)
    return Signals(level, trend, noise, best - state.worst, best, planned - record.epoch, planned)


def fit_line(epochs: tuple[int, ...], values: tuple[float, ...]) -> tuple[float, float, float]:
    """Fit a line to values over the logarithm of the epoch: value at the newest epoch, slope, standard deviation."""
    import numpy as np

    x, mean, spread = _log_time(epochs)
    level = sum(values) / len(values)
    y = np.array(values) - level
    slope = float(x @ y) / spread
    rest = y - slope * x
    return level - slope * mean, slope, math.sqrt(float(rest @ rest) / (len(values) - 2))


@lru_cache(maxsize=4096)  # a replay asks for the same epochs in run after run
def _log_time(epochs: tuple[int, ...]) -> tuple[NDArray[np.float64], float, float]:
    """Return the centred logarithms of epoch / newest epoch, their mean, and the sum of their squares."""
    import numpy as np

    x = np.log(np.array(epochs) / epochs[-1])
    mean = float(x.mean())
    x -= mean
    return x, mean, float(x @ x)


def expected_excess(centre: float, scale: float, goal: float) -> float:
    """Return the mean of `max(0, X - goal)` for a Student-t variable X with 4 degrees of freedom.

    Args:
        centre: The centre of X.
        scale: The scale of X, > 0.
        goal: The value to exceed.

    Example:
        >>> round(expected_excess(centre=0.0, scale=1.0, goal=0.0), 3)
        0.5
    """
    z = (centre - goal) / scale
    density = 0.375 / math.sqrt(1 + z * z / 4) ** 5
    u = z / math.sqrt(1 + z * z / 4)
    below = 0.5 + 0.375 * u * (1 - u * u / 12)
    return max(0.0, scale * (z * below + (4 + z * z) / 3 * density))
