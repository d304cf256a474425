"""Calls a function of an Ultralytics integration and logs an exception instead of raising it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import hide
from yolo_callbacks.trainer.patches.platform_key import keys


class Guard:
    """Calls the functions of one integration, for one trainer and its validators.

    Args:
        who: The integration's name in the log.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._logged: set[tuple[str, str]] = set()

    def call(self, event: str, function: Callable[[Any], Any], source: Any) -> None:
        """Call a function for an event."""
        self.attempt(function, source, event)

    def attempt(self, function: Callable[[Any], Any], source: Any, what: str, outcome: str = "") -> bool:
        """Call a function and return whether it raised nothing; log each kind of exception once."""
        try:
            function(source)
        except Exception as error:
            kind = type(error).__name__
            if (what, kind) not in self._logged:
                self._logged.add((what, kind))
                sentence = f"{self._who}: {what} failed; {outcome or 'training continues'}: {kind}: {error}"
                LOGGER.warning(hide(sentence, keys()))
            return False
        return True
