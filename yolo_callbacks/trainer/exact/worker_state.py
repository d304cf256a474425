"""The state of a data loader's worker: sent by it with its last batch of an epoch, and taken up by its successor."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from yolo_callbacks.trainer.exact.random_state import dataset_state, generators, set_dataset_state, set_generators

SHIPPED = "yolo_callbacks/worker_state"
"""The name of the state in a batch."""


class ShipsState:
    """A collate function that adds the worker's state to its last batch of each pass over the data.

    The loader hands its batches to the workers in turn, so a worker knows from its own count which batch it makes.

    Args:
        collate: The loader's own.
        batches: Batches in a pass.
    """

    def __init__(self, collate: Callable[[Any], Any], batches: int) -> None:
        self._collate = collate
        self._batches = batches
        self._made = 0

    def __call__(self, samples: Any) -> Any:
        """Make a batch."""
        from torch.utils.data import get_worker_info

        batch, worker = self._collate(samples), get_worker_info()
        if worker is None:
            return batch
        number, self._made = self._made * worker.num_workers + worker.id, self._made + 1
        if isinstance(batch, dict) and number % self._batches >= self._batches - worker.num_workers:
            batch[SHIPPED] = pack({"generators": generators(), "dataset": dataset_state(worker.dataset)})
        return batch


class TakesUpState:
    """A `worker_init_fn` that puts a new worker in the state of an old one.

    Args:
        init: The loader's own.
        states: The state of each worker, in the order in which they take batches.
    """

    def __init__(self, init: Callable[[int], Any] | None, states: Sequence[Any]) -> None:
        self._init = init
        self._states = states

    def __call__(self, worker: int) -> None:
        """Begin as a worker."""
        from torch.utils.data import get_worker_info

        if self._init is not None:
            self._init(worker)
        state, info = unpack(self._states[worker]), get_worker_info()
        set_dataset_state(info.dataset, state["dataset"])
        set_generators(state["generators"])


def pack(state: Any) -> Any:
    """Return plain data as a tensor of bytes: it travels in shared memory, where bytes would fill the workers' pipe."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.frombuffer(bytearray(buffer.getbuffer()), dtype=torch.uint8)


def unpack(packed: Any) -> Any:
    """Return what was packed."""
    import torch

    return torch.load(io.BytesIO(packed.numpy().tobytes()), weights_only=True)
