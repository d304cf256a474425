"""Ranks: which process this is, and how decisions reach the others."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def broadcast(value: T, world_size: int) -> T:
    """Return rank 0's `value` on every rank; with one process, return it unchanged.

    Every rank must call it at the same point. Sends one small message (an epoch's decisions) with
    `torch.distributed.broadcast_object_list` over the trainer's process group.
    """
    if world_size < 2:
        return value
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def rank() -> int:
    """Return the number of this process among those that train, 0 if it is the only one."""
    from ultralytics.utils import RANK

    return max(0, int(RANK))


def is_main() -> bool:
    """Return whether this process is rank 0 or the only one."""
    from ultralytics.utils import RANK

    return RANK in {-1, 0}


def is_worker() -> bool:
    """Return whether this process is a rank of a distributed training."""
    from ultralytics.utils import RANK

    return bool(RANK != -1)


def launches_workers(trainer: Any) -> bool:
    """Return whether a trainer only launches other processes, so that this one receives no events."""
    return bool(getattr(trainer, "ddp", False))
