"""Copies of a nested state in memory that is reused, so that the training thread pays for the copy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_callbacks.support.numbers import plain

_PLAIN = (str, int, float, bool, type(None))


class UnknownKindError(TypeError):
    """A state holds something that is no plain data, and no tensor."""


class HostCopy:
    """Holds one copy, on the CPU, of whatever is copied. The next one overwrites its tensors."""

    def __init__(self) -> None:
        self._last: Any = None

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of nested dicts, lists and tuples of numbers, strings and tensors.

        Raises:
            UnknownKindError: If there is anything else in it.
        """
        import torch

        sources: list[Any] = []
        targets: list[Any] = []

        def copied(value: Any, last: Any) -> Any:
            if isinstance(value, torch.Tensor):
                target = last if _fits(last, value) else _host_memory(value)
                sources.append(value)
                targets.append(target)
                return target
            if isinstance(value, dict):
                before = last if isinstance(last, dict) else {}
                return {key: copied(item, before.get(key)) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                old = last if isinstance(last, (list, tuple)) and len(last) == len(value) else [None] * len(value)
                items = [copied(*pair) for pair in zip(value, old)]
                return tuple(items) if isinstance(value, tuple) else items
            value = plain(value)
            if type(value) not in _PLAIN:
                raise UnknownKindError(f"its state holds a {type(value).__name__}, which cannot be saved")
            return value

        copy: dict[str, Any] = copied(dict(state), self._last)
        with torch.no_grad():
            torch._foreach_copy_(targets, sources, non_blocking=True)
        if sources and sources[0].device.type == "cuda":  # a weight of the model
            torch.cuda.current_stream(sources[0].device).synchronize()
        self._last = copy
        return copy


def _fits(memory: Any, value: Any) -> bool:
    """Return whether there is memory for a tensor as it is."""
    return (
        memory is not None
        and getattr(memory, "shape", None) == value.shape
        and memory.dtype == value.dtype
        and memory.stride() == value.stride()
    )


def _host_memory(value: Any) -> Any:
    import torch

    return torch.empty_like(value, device="cpu", requires_grad=False, pin_memory=value.device.type == "cuda")
