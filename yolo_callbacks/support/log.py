"""The one logger: a child of Ultralytics', so that our lines appear where its lines do, and obey its settings."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

LOGGER = logging.getLogger("ultralytics.yolo_callbacks")


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Drop what Ultralytics logs as info in this thread, such as paths of temporary files; warnings remain."""
    thread, logger = threading.get_ident(), logging.getLogger("ultralytics")

    def lets_through(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.WARNING

    logger.addFilter(lets_through)
    try:
        yield
    finally:
        logger.removeFilter(lets_through)
