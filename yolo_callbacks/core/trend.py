"""Trend: whether a series grows steadily, and how fast. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SHORTEST = 20
"""Number of values below which nothing is said."""

_Z = 2.576  # of an interval of 99 %
_BLOCKS = 4
_EVENNESS = 0.5  # share of the mean growth that each block must reach


@dataclass(frozen=True)
class Trend:
    """A steady growth.

    Attributes:
        slope: Growth per step, > 0.
        low: Lower end of its interval of 99 %, > 0.
        high: Upper end of the interval.
    """

    slope: float
    low: float
    high: float


def steady_growth(steps: Sequence[int], values: Sequence[float]) -> Trend | None:
    """Return how fast a series grows; None if it does not grow, or not steadily.

    Two conditions hold for a steady growth. The slope's interval of 99 % excludes 0: the slope is the median of the
    slopes between all pairs of points, which a few outliers do not move (Sen, "Estimates of the regression coefficient
    based on Kendall's tau", 1968). And the medians of the four quarters of the series rise evenly, the slowest rise
    being at least half the mean one: this leaves out a single step, and a rise that levels off, as after a start.

    Args:
        steps: Where the values were measured, increasing.
        values: The values, finite.

    Example:
        >>> steady_growth(range(24), [100 + 2 * step for step in range(24)])
        Trend(slope=2.0, low=2.0, high=2.0)
        >>> steady_growth(range(24), [100] * 12 + [150] * 12)  # one step
    """
    number = len(values)
    if number < SHORTEST or not _rises_evenly(values):
        return None
    slopes = sorted(
        (values[later] - values[earlier]) / (steps[later] - steps[earlier])
        for later in range(number)
        for earlier in range(later)
    )
    half = _Z * math.sqrt(number * (number - 1) * (2 * number + 5) / 18) / 2
    middle = len(slopes) / 2
    low, high = slopes[max(0, math.floor(middle - half))], slopes[min(len(slopes) - 1, math.ceil(middle + half))]
    return Trend(statistics.median(slopes), low, high) if low > 0 else None


def _rises_evenly(values: Sequence[float]) -> bool:
    bounds = [len(values) * block // _BLOCKS for block in range(_BLOCKS + 1)]
    medians = [statistics.median(values[start:end]) for start, end in pairwise(bounds)]
    rises = [after - before for before, after in pairwise(medians)]
    mean = sum(rises) / len(rises)
    return mean > 0 and min(rises) >= _EVENNESS * mean
