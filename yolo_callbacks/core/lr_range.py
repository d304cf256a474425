"""The learning-rate range test: which rates are tried, when it ends, and what the curve suggests. Pure.

Source: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017. The suggestion is the rate at
which the smoothed loss falls fastest over the logarithm of the rate, as in fastai and Lightning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

EXPONENTIAL, LINEAR = "exponential", "linear"
MODES = (EXPONENTIAL, LINEAR)

_BETA = 0.9  # of the running mean that tells when the loss diverges
_FEWEST = 20  # points for a suggestion
_CLEAR = 3.0  # a fall counts if it is so many times the noise of the smoothed loss


def rate_at(step: int, steps: int, min_lr: float, max_lr: float, mode: str) -> float:
    """Return the rate of a step, counted from 0.

    Example:
        >>> [round(rate_at(step, 3, 1e-4, 1e-2, "exponential"), 6) for step in range(3)]
        [0.0001, 0.001, 0.01]
    """
    share = step / (steps - 1)
    if mode == LINEAR:
        return min_lr + (max_lr - min_lr) * share
    return float(min_lr * (max_lr / min_lr) ** share)


@dataclass(frozen=True)
class Divergence:
    """Tells when a loss has diverged: it is not finite, or its running mean is so many times the best one.

    Attributes:
        threshold: How many times; None for never.
        mean: The running mean, before its correction.
        best: The best corrected mean.
        count: Number of losses.
        diverged: Whether the newest loss has.
    """

    threshold: float | None
    mean: float = 0.0
    best: float = math.inf
    count: int = 0
    diverged: bool = False

    def after(self, loss: float) -> Divergence:
        """Return the state after one more loss."""
        count, mean = self.count + 1, _BETA * self.mean + (1 - _BETA) * loss
        corrected = mean / (1 - _BETA**count)
        beyond = self.threshold is not None and count > 1 and corrected > self.threshold * self.best
        return Divergence(self.threshold, mean, min(self.best, corrected), count, beyond or not math.isfinite(loss))


@dataclass(frozen=True)
class Suggestion:
    """What the curve says.

    Attributes:
        lr: The suggested learning rate; None if there is no clear one.
        why: One sentence.
    """

    lr: float | None
    why: str


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the losses, each averaged with its neighbors: a tenth of all, fewer at the ends.

    Example:
        >>> smoothed([1.0, 2.0, 3.0])
        [1.5, 2.0, 2.5]
    """
    half = _half(len(losses))
    windows = (losses[max(0, index - half) : index + half + 1] for index in range(len(losses)))
    return [sum(window) / len(window) for window in windows]


def _half(count: int) -> int:
    return max(1, count // 20)


def suggest(lrs: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """Return the rate at which the smoothed loss falls fastest, before its lowest point.

    Args:
        lrs: The rates, rising.
        losses: The loss at each.

    Example:
        >>> lrs = [10 ** (step / 20 - 5) for step in range(100)]
        >>> 1e-3 < suggest(lrs, [1 / (1 + lr * 500) + 30 * lr**2 for lr in lrs]).lr < 5e-3
        True
    """
    pairs = [(lr, loss) for lr, loss in zip(lrs, losses) if math.isfinite(loss)]
    if len(pairs) < _FEWEST:
        return Suggestion(
            None, f"no suggestion: the loss was finite in only {len(pairs)} steps; lower min_lr, or raise num_training"
        )
    x, raw = [math.log10(lr) for lr, _ in pairs], [loss for _, loss in pairs]
    mean, half = smoothed(raw), _half(len(raw))
    slopes = [
        (mean[min(k + half, len(x) - 1)] - mean[max(k - half, 0)])
        / (x[min(k + half, len(x) - 1)] - x[max(k - half, 0)])
        for k in range(len(x))
    ]
    lowest = mean.index(min(mean))
    first = _half(len(x))
    noise = math.sqrt(sum((a - b) ** 2 for a, b in zip(raw[: lowest + 1], mean)) / (lowest + 1) / (2 * half + 1))
    fall = max(mean[: lowest + 1]) - mean[lowest]
    if lowest <= first or fall <= _CLEAR * noise:
        return Suggestion(
            None, "no clear suggestion: the loss does not fall by more than its noise; raise num_training or max_lr"
        )
    steepest = min(range(first, lowest + 1), key=slopes.__getitem__)
    edge = 2 * half  # where there are too few neighbors
    if steepest <= edge:
        return Suggestion(None, "no clear suggestion: the loss falls fastest at the lowest rates; lower min_lr")
    if steepest >= len(x) - 1 - edge:
        return Suggestion(None, "no clear suggestion: the loss falls fastest at the highest rates; raise max_lr")
    return Suggestion(10 ** x[steepest], "where the smoothed loss falls fastest")


@dataclass(frozen=True)
class AutoChoice:
    """What Ultralytics' `optimizer=auto` chooses; it ignores `lr0` and `momentum`.

    Attributes:
        optimizer: `"MuSGD"` or `"AdamW"`.
        lr0: The initial learning rate.
    """

    optimizer: str
    lr0: float


def auto_choice(images: int, batch: int, nbs: int, epochs: int, classes: int) -> AutoChoice:
    """Return what `optimizer=auto` chooses, as `BaseTrainer.build_optimizer` of Ultralytics does.

    Args:
        images: Number of training images.
        batch: Batch size.
        nbs: Nominal batch size.
        epochs: Number of planned epochs.
        classes: Number of classes.

    Example:
        >>> auto_choice(images=256, batch=16, nbs=64, epochs=20, classes=3)
        AutoChoice(optimizer='AdamW', lr0=0.001429)
    """
    iterations = math.ceil(images / max(batch, nbs)) * epochs
    if iterations > 10000:
        return AutoChoice("MuSGD", 0.01)
    return AutoChoice("AdamW", round(0.002 * 5 / (4 + classes), 6))
