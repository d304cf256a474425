"""How far a metric can be trusted, given the number of validation images. Pure.

A score of a classifier is a share of its images. mAP is not: there is no exact interval for it without its
predictions. But if it behaved like a mean of one score in [0, 1] per image, its variance would be at most
p (1 - p) / n (Bhatia and Davis, "A Better Bound on the Variance", Amer. Math. Monthly 107, 2000): that of a share. So
the interval of a share is the approximation here. It says nothing about the noise between two trainings of one setting.
"""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""The two-sided 95% quantile of the normal distribution."""


def wilson(share: float, number: int) -> tuple[float, float]:
    """Return the 95% interval of a share of `number` images.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).

    Example:
        >>> [round(limit, 4) for limit in wilson(0.5, 100)]
        [0.4038, 0.5962]
    """
    spread = Z_95**2 / number
    center = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / number + spread / (4 * number))
    return max(0.0, center - half), min(1.0, center + half)


def difference(share: float, number: int, other: float, other_number: int) -> tuple[float, float]:
    """Return the 95% interval of `other - share`, for independent samples.

    Newcombe, "Interval Estimation for the Difference Between Independent Proportions", Statist. Med. 17 (1998), method
    10. On the same images, two models err together, so that the true interval is usually narrower.

    Example:
        >>> [round(limit, 4) for limit in difference(48 / 80, 80, 56 / 70, 70)]  # Newcombe's own example
        [0.0524, 0.3339]
    """
    low, high = wilson(share, number)
    other_low, other_high = wilson(other, other_number)
    gap = other - share
    return (
        gap - math.sqrt((other - other_low) ** 2 + (high - share) ** 2),
        gap + math.sqrt((other_high - other) ** 2 + (share - low) ** 2),
    )
