"""Samples of tensors: enough numbers for a histogram, bounded in size, copied from the device in one transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sample = Mapping[str, Any]
"""NumPy arrays by the names of their tensors."""


def sample(tensors: Mapping[str, Any], most: int) -> Sample:
    """Return evenly spaced values of each tensor, as float32 NumPy arrays.

    Args:
        tensors: PyTorch tensors by name, all on one device.
        most: The largest number of values per tensor; a smaller tensor is taken whole. Best a prime number: otherwise
            the spacing may always hit the same place of a tensor's kernels.

    Example:
        >>> import torch
        >>> sample({"a": torch.arange(10), "b": torch.ones(2)}, most=3)["a"].tolist()
        [0.0, 3.0, 6.0]
    """
    import torch

    if not tensors:
        return {}
    parts = {name: _thinned(tensor.detach().flatten(), most) for name, tensor in tensors.items()}
    flat = torch.cat([part.float() for part in parts.values()]).cpu().numpy()
    arrays, start = {}, 0
    for name, part in parts.items():
        arrays[name] = flat[start : start + len(part)]
        start += len(part)
    return arrays


def _thinned(flat: Any, most: int) -> Any:
    import torch

    if len(flat) <= most:
        return flat
    return flat[torch.arange(most, device=flat.device) * len(flat) // most]
