"""Secrets: what must be in no file, log line, exception text or message, and how it is kept out."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "***"
"""What stands in the place of a secret."""

_SECRET_NAME = re.compile(
    r"key|token|secret|passw|credential|auth(?!or(?!iz))|webhook|remote_url|notify_urls", re.IGNORECASE
)
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_URL_QUERY = re.compile(r"(://[^\s?#]*\?)[^\s#]+")
_WORD = 8  # a shorter value, or one of letters alone, would be found in text that has nothing to do with it
_LONG_WORD = 16
_TOKEN = 16  # a part of a path as long as that, letters and digits mixed, is no name


# a context and not a thread: apprise hands its work to threads of its own, and the context with it
_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


class Secret(str):
    """A string whose `repr` shows something else, and which `without_secrets` takes for that.

    So a callback can keep a secret in an attribute like any other argument. `str` and f-strings do show it.

    Args:
        value: The secret.
        shown: What is shown in its place.

    Example:
        >>> key = Secret("k3y")
        >>> key == "k3y", repr(key), without_secrets({"any name": key})
        (True, "'***'", {'any name': '***'})
    """

    shown: str

    def __new__(cls, value: str, shown: str = HIDDEN) -> Secret:
        """Make a string that shows another one."""
        secret = super().__new__(cls, value)
        secret.shown = shown
        return secret

    def __repr__(self) -> str:
        return repr(self.shown)


def secret_url(url: str) -> Secret:
    """Return a URL that shows no login, no query, and no part of its path that looks like a token.

    Example:
        >>> secret_url("https://me:pw@host.org:8443/hooks/0f3c9ad2b1e84d7795ab?key=1")
        'https://***@host.org:8443/hooks/***?***'
    """
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    path = "/".join(HIDDEN if _looks_random(part) else part for part in parts.path.split("/"))
    shown = f"{parts.scheme}://{HIDDEN + at if login else at}{host}{path}"
    return Secret(url, shown + (f"?{HIDDEN}" if parts.query else "") + (f"#{HIDDEN}" if parts.fragment else ""))


def unless_hidden(name: str, value: Any, variable: str) -> Any:
    """Return an argument, or None where it comes from a `run.json`, which hides it, and the environment has it.

    Args:
        name: The argument's name.
        value: Its value.
        variable: Name of the environment variable that stands for it.

    Raises:
        ValueError: If it is hidden, and the environment does not have it.
    """
    texts = value if isinstance(value, (list, tuple)) else [value]
    if not any(isinstance(text, str) and HIDDEN in text for text in texts):
        return value
    if os.environ.get(variable):
        return None
    raise ValueError(f"{name} is hidden in run.json: set the environment variable {variable}")


def hide(text: str, also: Iterable[str] = ()) -> str:
    """Take out of a text what must not be told: logins and queries in URLs, and secrets of the environment.

    A secret of the environment is the value of a variable whose name looks like one's (`WANDB_API_KEY`), if it is
    long enough not to be an everyday word and is no path of a file.

    Args:
        text: Any text, such as that of an exception.
        also: Other secrets to look for.

    Example:
        >>> hide("cannot read https://me:pw@host/data.zip?token=abc")
        'cannot read https://***@host/data.zip?***'
    """
    return _hide(text, [*also, *_of_environment()])


def without_secrets(value: Any, name: str = "") -> Any:
    """Return a copy with the values of secret-looking names taken out, and of every text what `hide` takes out.

    Example:
        >>> without_secrets({"api_key": "abc", "url": "https://me:pw@host/x", "lr0": 0.01})
        {'api_key': '***', 'url': 'https://***@host/x', 'lr0': 0.01}
    """
    return _without(value, name, list(_of_environment()))


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[list[str]]:
    """Leave out what other libraries log meanwhile on behalf of this thread: they log URLs.

    Returns:
        What they would have said.
    """
    said: list[str] = []
    mine = _said.set(said)

    def lets_through(record: logging.LogRecord) -> bool:
        if _said.get() is not said:
            return True
        said.append(record.getMessage())
        return False

    for name in loggers:
        logging.getLogger(name).addFilter(lets_through)
    try:
        yield said
    finally:
        _said.reset(mine)
        for name in loggers:
            logging.getLogger(name).removeFilter(lets_through)


def _without(value: Any, name: str, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without(item, str(key), secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(item, name, secrets) for item in value]
    if isinstance(value, str):
        if value and _SECRET_NAME.search(name):
            return HIDDEN
        return value.shown if isinstance(value, Secret) else _hide(value, secrets)
    return value


def _hide(text: str, secrets: Iterable[str]) -> str:
    # the longest first: one secret may begin with another
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if secret else text
    return _URL_QUERY.sub(rf"\g<1>{HIDDEN}", _URL_LOGIN.sub(f"{HIDDEN}@", text))


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name):
            for part in re.split(r"[\s,]+", value) if "://" in value else [value.strip()]:
                if _is_worth_hiding(part):
                    yield part


def _is_worth_hiding(value: str) -> bool:
    if len(value) < (_LONG_WORD if value.isalpha() else _WORD):
        return False
    try:
        return not (os.sep in value and Path(value).exists())
    except OSError:  # too long for a path
        return True


def _looks_random(part: str) -> bool:
    return len(part) >= _TOKEN and any(c.isdigit() for c in part) and any(c.isalpha() for c in part)
