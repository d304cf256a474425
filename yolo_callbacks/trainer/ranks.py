"""Ranks: who decides, and how the others hear of it."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def broadcast(value: T, world_size: int) -> T:
    """Return rank 0's `value` on every rank; a plain return where there is one process.

    Every rank must call it at the same point. It is one small message (an epoch's decisions), sent with
    `torch.distributed.broadcast_object_list` over the process group that the trainer opened.
    """
    if world_size < 2:
        return value
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]
