"""Keeps the Platform's API key and signed URLs out of Ultralytics' log.

Changed: a filter on the logger `ultralytics`.
Why: HTTP libraries quote a header that they refuse, such as a key that ends with a line break, and Ultralytics logs
the error.
Undone: never; the Platform's threads live as long as the process.
Needed in: every supported version.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable

from yolo_callbacks.support.secrets import HIDDEN, hide

_LOGS_URLS = ("platform", "uploads")  # Ultralytics modules that log the server's answers
_SIGNED_PATH = re.compile(r"(with url: [^\s?]*\?)[^\s)]+")
_SHORTEST_KEY = 8  # characters; a shorter key would match unrelated text


def keys() -> list[str]:
    """Return the API key in every form that a text may contain; empty if there is no key."""
    from ultralytics.utils import SETTINGS

    key = os.getenv("ULTRALYTICS_API_KEY") or SETTINGS.get("api_key") or ""
    written = dict.fromkeys((key, key.strip(), repr(key)[1:-1]))
    return [word for word in written if len(word) >= _SHORTEST_KEY]


class _WithoutKey(logging.Filter):
    """Hides the key and the signatures of upload URLs in what Ultralytics logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record on, without secrets."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not match the format: logging itself reports that
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
