"""Hook: the function that is registered with Ultralytics for an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LIFECYCLE_EVENTS = (
    "on_pretrain_routine_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_model_save",
    "on_fit_epoch_end",
    "on_train_end",
    "teardown",
)
"""Events that a session needs, whatever the callbacks need. None of them is sent per batch."""


class Hook:
    """Forwards one event. Picklable, so that it reaches the other ranks; two hooks for one event are equal.

    Args:
        event: The event.
        receive: Called with the event and with what Ultralytics passes: the trainer or the validator.
    """

    def __init__(self, event: str, receive: Callable[[str, Any], None]) -> None:
        self.event = event
        self.receive = receive

    def __call__(self, source: Any) -> None:
        """Forward the event."""
        self.receive(self.event, source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hook) and self.event == other.event

    def __hash__(self) -> int:
        return hash(self.event)
