"""Says when a training on several GPUs begins in the process that launches its workers.

Changed: `ultralytics.utils.dist.generate_ddp_file`, which writes the program of the workers.
Why: the launching process sends no event, so nothing else tells it that it is about to launch them.
Undone: never, since other models may be attached; a trainer without functions of ours is launched as without us.
Needed in: every version that is supported.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def announce_launches(listener: type[Any]) -> None:
    """Send a training's first event in launching processes too, but only to functions of one type. Once per process.

    Args:
        listener: The type of the functions that get it.
    """
    from ultralytics.utils import dist

    write = dist.generate_ddp_file

    def generate_ddp_file(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        for function in list(trainer.callbacks.get("on_pretrain_routine_start", ())):
            if isinstance(function, listener):
                function(trainer)
        return write(trainer, *args, **kwargs)

    dist.generate_ddp_file = generate_ddp_file
