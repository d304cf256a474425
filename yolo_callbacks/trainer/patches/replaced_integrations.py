"""Switches off an Ultralytics integration that a callback replaces.

Changed: the integration's functions in `trainer.callbacks`; for TensorBoard also its module's `WRITER`.
Why: a run would be logged twice.
Undone: never; the lists belong to this trainer only, and Ultralytics opens a new writer for its next run.
Needed in: every supported version.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage

_PACKAGE = "ultralytics.utils.callbacks"
_ONLY_A_HEADER = 256  # bytes; an event file without a single event has 88


def switch_off(trainer: Any, name: str) -> bool:
    """Switch an integration off for this run, and undo what it may have started.

    Args:
        trainer: The trainer.
        name: The integration's module in `ultralytics.utils.callbacks`, such as `"tensorboard"`.

    Returns:
        Whether it was on.
    """
    module, was_on = f"{_PACKAGE}.{name}", False
    for functions in trainer.callbacks.values():
        for place, function in enumerate(functions[:]):
            if getattr(function, "__module__", None) == module:
                # not removed: Ultralytics may be iterating over this list, and would skip the next function
                functions[place], was_on = _nothing, True
    if was_on and name == "tensorboard":
        _close_tensorboard(sys.modules[module], Path(trainer.save_dir))
    return was_on


def _nothing(_: Any) -> None:
    """Replace a function that is switched off."""


def _close_tensorboard(module: Any, folder: Path) -> None:
    """Close the event file that Ultralytics opened for this run, and remove it if it is empty."""
    writer = getattr(module, "WRITER", None)
    if writer is None or Path(writer.log_dir) != folder:  # before 8.4.177 the last run's writer is still there
        return
    writer.close()
    module.WRITER = None
    for path in folder.glob(f"events.out.tfevents.*.{os.getpid()}.*"):
        if storage.size(path) <= _ONLY_A_HEADER:
            storage.remove(path)
