"""How much the rest of a run can still be expected to improve.

The rule behind `EarlyStopping(patience="auto")`. `docs/stopping.md` derives it and shows what it does on real curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from yolo_callbacks.core.monitor import Monitor
from yolo_callbacks.core.record import EpochRecord, Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AUTO = "auto"

_LONG, _AT_LEAST = 0.25, 10  # of the planned epochs, and epochs: what the trend is taken from
_SHORT, _AT_LEAST_SHORT = 0.1, 6  # what has to agree with it
_HALF = 0.5  # of the planned epochs: how long a metric that has never moved is waited for


@dataclass(frozen=True)
class Constants:
    """What makes a forecast of the signals. Rounded from what `benchmarks/fit_forecast.py` fits to real curves.

    Attributes:
        trend: How much of the trend goes on.
        records: How far the best of the remaining epochs stands out of the noise, against independent epochs.
        noise: Uncertainty, in multiples of the noise.
        doubt: Uncertainty, in multiples of the trend.
        surprise: Uncertainty, as a share of the progress, if all epochs remained: for what no trend tells of. The
            curves ask for none of it; it keeps a run without any noise from being sure.
    """

    trend: float = 0.4
    records: float = 0.7
    noise: float = 1.7
    doubt: float = 0.3
    surprise: float = 0.01


@dataclass(frozen=True)
class Signals:
    """What a forecast is made of, in units of the metric, of which more is better.

    Attributes:
        level: Where the trend stands now.
        trend: How much higher it is in the last planned epoch.
        noise: Standard deviation around it.
        progress: From the worst value of the first window to the best one.
        best: Best value so far.
        remaining: Number of epochs to come, >= 1.
        planned: Number of all.
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
        """Return about where the highest value of the remaining epochs is expected."""
        return self.level + constants.trend * self.trend + constants.records * self.records

    def scale(self, constants: Constants) -> float:
        """Return how uncertain that is."""
        return math.hypot(
            constants.noise * self.noise,
            constants.doubt * self.trend,
            constants.surprise * self.progress * self.remaining / self.planned,
        )


@dataclass(frozen=True)
class Forecast:
    """What is known of a run, and what is expected of its rest.

    Attributes:
        plan: What the run set out to do.
        epochs: Epochs that the trend is taken from, oldest first.
        values: What was measured in them, higher is better.
        best: Best value so far.
        worst: Worst value of the first window.
        count: Number of values so far.
        signals: What the forecast is made of, by the long window and by the short one; empty as long as there is none.
        expected_gain: By how much the best of all remaining epochs is expected to beat the best so far, as a share of
            the progress so far (from the worst value of the first window to the best one), >= 0; 0 where a metric has
            not moved in half of the planned epochs; None as long as it is too early to say, and once mosaic is closed.
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
    """Forecasts, after each epoch, how much the rest of the run adds to the best value of a monitored metric.

    The rest is taken to bring a highest value that is Student-t distributed with 4 degrees of freedom, around

        level + 0.4 * trend + 0.7 * noise * sqrt(2 ln m)

    with a scale of `sqrt((1.7 * noise)^2 + (0.3 * trend)^2 + (0.01 * progress * m / N)^2)`, where a straight line
    through the last quarter of the planned epochs, over the logarithm of the epoch, gives the level (its height now),
    the trend (how much higher it is in the last epoch) and the noise (the standard deviation around it); `m` of `N`
    epochs remain. The expected gain is the mean of what lies above the best so far. The same is done with the last
    tenth, and the larger of both gains is taken: a curve that has just turned upwards is not given up.

    Sources: the straight line over log time is the power law of learning curves (Domhan et al., IJCAI 2015) in its
    simplest form; `sqrt(2 ln m)` is the extreme-value bound on the highest of m normal values; the expected gain is the
    expected improvement of Bayesian optimisation (Jones et al., 1998), with the Student-t of Shah et al. (2014). The
    constants are maximum likelihood on public training curves; see `docs/stopping.md`.

    Attributes:
        monitor: What is followed; its `min_delta` is what a gain has to exceed.
        start_from_epoch: Number of epochs at the start that do not count.
        constants: What makes a forecast of the signals.
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
        full = record.epoch >= size + self._skipped(state.plan)
        now = Forecast(
            plan=state.plan,
            epochs=(*state.epochs, record.epoch)[-size:],
            values=(*state.values, value)[-size:],
            best=value if leads else state.best,
            worst=value if state.best is None else min(state.worst, value) if state.count < size else state.worst,
            count=state.count + 1,
            record=leads,
        )
        if not full or len(now.values) < _AT_LEAST or state.plan.mosaic_closed(record):
            return now
        if now.best == now.worst:  # no progress to compare with
            stuck = record.planned_epochs > 0 and record.epoch >= _HALF * record.planned_epochs
            return replace(now, expected_gain=0.0 if stuck else None)
        if record.epoch >= record.planned_epochs:  # no epoch is to come
            return now
        short = max(_AT_LEAST_SHORT, round(_SHORT * record.planned_epochs))
        signals = tuple(_signals(now, record, length) for length in (size, short))
        return replace(now, signals=signals, expected_gain=max(self.gain(one) for one in signals))

    def out_of_reach(self, plan: Plan, last: int) -> str | None:
        """Return why there is no forecast by an epoch; None if there may be one, or if the run's length is not known.

        Args:
            plan: What the run sets out to do.
            last: The last epoch in which a forecast still changes anything.
        """
        planned, first = plan.planned_epochs, _window(plan.planned_epochs) + self._skipped(plan)
        with_mosaic = planned - plan.close_mosaic if 0 < plan.close_mosaic < planned else planned
        if not planned or first <= min(last, with_mosaic):
            return None
        closed = f", and is silent once mosaic has closed after epoch {with_mosaic}" * (with_mosaic < planned)
        return (
            f"patience='auto' cannot end this run: of {planned} epochs it needs {first}{closed}; "
            "train longer, or say how many epochs to wait"
        )

    def _skipped(self, plan: Plan) -> int:
        """Return how many epochs at the start are no part of a trend."""
        return max(math.ceil(plan.warmup_epochs), self.start_from_epoch)

    def gain(self, signals: Signals) -> float:
        """Return the gain that is expected by one window."""
        goal = signals.best + self.monitor.delta(signals.best)
        return expected_excess(signals.centre(self.constants), signals.scale(self.constants), goal) / signals.progress


def _window(planned_epochs: int) -> int:
    """Return how many epochs the trend is taken from."""
    return max(_AT_LEAST, round(_LONG * planned_epochs))


def _signals(state: Forecast, record: EpochRecord, length: int) -> Signals:
    """Return what a forecast is made of, by the last `length` epochs with a value."""
    planned, best = record.planned_epochs, state.best
    assert best is not None  # there are values
    level, slope, noise = _line(state.epochs[-length:], state.values[-length:])
    trend = slope * math.log(planned / record.epoch)
    return Signals(level, trend, noise, best - state.worst, best, planned - record.epoch, planned)


def _line(epochs: tuple[int, ...], values: tuple[float, ...]) -> tuple[float, float, float]:
    """Fit values over the logarithm of the epoch: height at the newest epoch, slope, and deviation from the line."""
    import numpy as np

    x, mean, spread = _log_time(epochs)
    level = sum(values) / len(values)
    y = np.array(values) - level
    slope = float(x @ y) / spread
    rest = y - slope * x
    return level - slope * mean, slope, math.sqrt(float(rest @ rest) / (len(values) - 2))


@lru_cache(maxsize=4096)  # a replay asks for the same epochs in run after run
def _log_time(epochs: tuple[int, ...]) -> tuple[NDArray[np.float64], float, float]:
    """Return the logarithms of the epochs, against the newest, around their mean; the mean, and the sum of squares."""
    import numpy as np

    x = np.log(np.array(epochs) / epochs[-1])
    mean = float(x.mean())
    x -= mean
    return x, mean, float(x @ x)


def expected_excess(centre: float, scale: float, goal: float) -> float:
    """Return the mean of what a Student-t variable with 4 degrees of freedom has above `goal`, 0 where it is below.

    Args:
        centre: Its centre.
        scale: Its scale, > 0.
        goal: What it has to exceed.

    Example:
        >>> round(expected_excess(centre=0.0, scale=1.0, goal=0.0), 3)
        0.5
    """
    z = (centre - goal) / scale
    density = 0.375 / math.sqrt(1 + z * z / 4) ** 5
    u = z / math.sqrt(1 + z * z / 4)
    below = 0.5 + 0.375 * u * (1 - u * u / 12)
    return max(0.0, scale * (z * below + (4 + z * z) / 3 * density))
