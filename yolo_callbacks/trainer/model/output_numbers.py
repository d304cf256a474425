"""Statistics of layer outputs over the sampled batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_KEPT_ON_DEVICE = 1024  # outputs after which the numbers are fetched within an epoch


class OutputNumbers:
    """A few numbers for each output of a layer, kept on the device until needed.

    Args:
        zero_below: Values with at most this magnitude count as 0.
    """

    def __init__(self, zero_below: float) -> None:
        self._zero_below = zero_below
        self.clear()

    def clear(self) -> None:
        """Reset the epoch."""
        self._rows: list[tuple[str, Any]] = []
        self._sums: dict[str, Any] = {}
        self._channels: dict[str, Any] = {}

    def look(self, batch: int, layer: str, output: Any) -> None:
        """Keep the numbers of a layer's output in a batch."""
        import torch

        tensors = [tensor for tensor in _tensors(output) if tensor.is_floating_point() and tensor.numel()]
        with torch.no_grad():
            for tensor in tensors:
                values = tensor.detach().float()
                finite = torch.isfinite(values)
                count = finite.sum()
                sizes = values.abs()
                mean = torch.where(finite, values, 0.0).sum() / count
                squares = torch.where(finite, values - mean, 0.0).square().sum()
                zeros = (sizes <= self._zero_below).sum()
                numbers = (count, mean, squares, zeros, values.numel() - count)
                self._rows.append((layer, torch.stack([number.float() for number in numbers])))
            single = len(tensors) == 1 and tensors[0].ndim in (2, 4)
            self._note_channels(layer, sizes.transpose(0, 1).flatten(1).amax(1) if single else None)
        if len(self._rows) >= _KEPT_ON_DEVICE:
            self._fetch()

    def _note_channels(self, layer: str, largest: Any) -> None:
        """Keep each channel's largest magnitude; None once there are no channels or their number changes."""
        known = self._channels.get(layer, largest)
        same = known is not None and largest is not None and known.shape == largest.shape
        self._channels[layer] = known.maximum(largest) if same else None

    def take(self) -> dict[str, dict[str, float]]:
        """Return the numbers of each layer since the epoch began, and reset."""
        self._fetch()
        taken = {}
        for layer, (count, mean, squares, zeros, bad) in self._sums.items():
            numbers = {
                "mean": mean if count else np.nan,
                "std": np.sqrt(squares / count) if count else np.nan,
                "zero_share": zeros / (count + bad),
                "non_finite": bad,
            }
            largest = self._channels[layer]
            if largest is not None:
                numbers["dead_channels"] = float((largest <= self._zero_below).sum())
            taken[layer] = {name: float(value) for name, value in numbers.items()}
        self.clear()
        return taken

    def _fetch(self) -> None:
        """Fetch the numbers from the device in one transfer, and combine them."""
        import torch

        rows, self._rows = self._rows, []
        if not rows:
            return
        numbers = torch.stack([row for _, row in rows]).cpu().numpy().astype(np.float64)
        for (layer, _), row in zip(rows, numbers):
            self._sums[layer] = _combined(self._sums[layer], row) if layer in self._sums else row


def _combined(one: Any, other: Any) -> Any:
    """Combine two sets: count, mean, sum of squared deviations from it, and the sums of all other numbers.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.
    """
    if not one[0] or not other[0]:
        filled = other if other[0] else one
        return np.concatenate([filled[:3], one[3:] + other[3:]])
    count, apart = one[0] + other[0], other[1] - one[1]
    mean = one[1] + apart * other[0] / count
    squares = one[2] + other[2] + apart**2 * one[0] * other[0] / count
    return np.concatenate([[count, mean, squares], one[3:] + other[3:]])


def _tensors(output: Any) -> Iterator[Any]:
    """Return the tensors in a layer's output."""
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)
    elif hasattr(output, "is_floating_point"):
        yield output
