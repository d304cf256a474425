"""Keeps the Platform's API key and signed URLs out of Ultralytics' log.

Changed: a filter on the logger `ultralytics`.
Why: an HTTP library quotes a header that it refuses, such as a key that ends with a line break, and Ultralytics logs
the error.
Undone: never; the Platform's threads live as long as the process.
Needed in: every version that is supported.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable

from yolo_callbacks.support.secrets import HIDDEN, hide

_LOGS_URLS = ("platform", "uploads")  # modules of Ultralytics that log what the server has answered
_SIGNED_PATH = re.compile(r"(with url: [^\s?]*\?)[^\s)]+")
_SHORTEST_KEY = 8  # characters; a shorter key would be found in text that has nothing to do with it


def keys() -> list[str]:
    """Return the API key in each form in which a text may show it; empty if there is no key."""
    from ultralytics.utils import SETTINGS

    key = os.getenv("ULTRALYTICS_API_KEY") or SETTINGS.get("api_key") or ""
    written = dict.fromkeys((key, key.strip(), repr(key)[1:-1]))
    return [word for word in written if len(word) >= _SHORTEST_KEY]


class _WithoutKey(logging.Filter):
    """Takes the key, and the signature of an upload's URL, out of what Ultralytics logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without secrets."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit: logging itself reports that
            return True
        shown = _replaced(text, keys())
        if record.module in _LOGS_URLS:
            shown = _SIGNED_PATH.sub(rf"\g<1>{HIDDEN}", hide(shown))
        if shown != text:
            record.msg, record.args = shown, None
        return True


def _replaced(text: str, words: Iterable[str]) -> str:
    for word in words:
        text = text.replace(word, HIDDEN)
    return text


def hide_key() -> None:
    """Keep the key out of the log for the rest of the process."""
    logger = logging.getLogger("ultralytics")
    if not any(isinstance(item, _WithoutKey) for item in logger.filters):
        logger.addFilter(_WithoutKey())
