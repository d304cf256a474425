"""The events that Ultralytics' trainer and validator send."""

from __future__ import annotations

from yolo_callbacks.support.checks import nearest

TRAIN_EVENTS = (
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_model_save",
    "on_fit_epoch_end",
    "on_train_end",
    "teardown",
)
VAL_EVENTS = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
EVENTS = TRAIN_EVENTS + VAL_EVENTS


def check_events(callback: object) -> None:
    """Check that every `on_...` method is named after an event; Ultralytics accepts any name and never calls it.

    Raises:
        ValueError: If a name is not an event.
    """
    for name in dir(type(callback)):
        if name.startswith("on_") and name not in EVENTS:
            raise ValueError(
                f"{type(callback).__name__}.{name} is not an event of Ultralytics{nearest(name, EVENTS)}; the events "
                f"are {', '.join(EVENTS)}"
            )
