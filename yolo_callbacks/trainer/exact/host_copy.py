"""Copies of a nested state in memory that is reused, so that the training thread pays for the copy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_callbacks.support.numbers import plain

_PLAIN = (str, int, float, bool, type(None))


class UnknownKindError(TypeError):
    """A state holds something that is no plain data, and no tensor."""


class HostCopy:
    """Holds one copy, on the CPU, of whatever is copied. The next one overwrites it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Any] = {}

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of nested dicts, lists and tuples of numbers, strings and tensors.

        Raises:
            UnknownKindError: If there is anything else in it.
        """
        import torch

        buffers: dict[tuple[Any, ...], Any] = {}
        sources: list[Any] = []

        def copied(value: Any, path: tuple[Any, ...]) -> Any:
            if isinstance(value, torch.Tensor):
                buffers[path] = self._buffer(path, value)
                sources.append(value.detach())
                return buffers[path]
            if isinstance(value, Mapping):
                return {copied(key, path): copied(item, (*path, key)) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                items = [copied(item, (*path, index)) for index, item in enumerate(value)]
                return tuple(items) if isinstance(value, tuple) else items
            value = plain(value)
            if type(value) not in _PLAIN:
                raise UnknownKindError(f"{'.'.join(map(str, path))} is a {type(value).__name__}")
            return value

        copy: dict[str, Any] = copied(state, ())
        targets = list(buffers.values())
        if targets:
            torch._foreach_copy_(targets, sources, non_blocking=True)
        for device in {source.device for source in sources if source.device.type == "cuda"}:
            torch.cuda.current_stream(device).synchronize()
        self._buffers = buffers
        return copy

    def _buffer(self, path: tuple[Any, ...], value: Any) -> Any:
        import torch

        old = self._buffers.get(path)
        if old is not None and (old.shape, old.dtype, old.stride()) == (value.shape, value.dtype, value.stride()):
            return old
        return torch.empty_like(value, device="cpu", pin_memory=value.device.type == "cuda")
