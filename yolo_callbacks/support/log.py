"""Our logger, a child of Ultralytics' logger so that it follows its settings; and how to silence other loggers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

LOGGER = logging.getLogger("ultralytics.yolo_callbacks")

# not thread-local: apprise passes its work, and this context with it, to threads of its own
_silenced: ContextVar[list[str] | None] = ContextVar("silenced", default=None)


@contextlib.contextmanager
def quiet(*loggers: str, below: float = float("inf")) -> Iterator[list[str]]:
    """Suppress what other libraries log in this thread, such as URLs or the paths of temporary files.

    Args:
        loggers: Names of their loggers.
        below: Records of this level and above are still logged.

    Yields:
        The suppressed messages.
    """
    messages: list[str] = []
    token = _silenced.set(messages)

    def passes(record: logging.LogRecord) -> bool:
        if _silenced.get() is not messages or record.levelno >= below:
            return True
        messages.append(record.getMessage())
        return False

    for name in loggers:
        logging.getLogger(name).addFilter(passes)
    try:
        yield messages
    finally:
        _silenced.reset(token)
        for name in loggers:
            logging.getLogger(name).removeFilter(passes)
