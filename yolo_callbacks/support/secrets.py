"""Secrets: kept out of files, log lines, exceptions and messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "***"
"""What replaces a secret."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # in API_KEY, api-key, apiKey
_SECRET_WORD = re.compile(
    r"\w*(token|secrets?|passwords?|passwd|credentials?|webhooks?|(api|access|secret|private)key)"
    r"|o?auth|authorization|passphrase|passcode|pwd"
)
_SECRET_WORDS = re.compile(
    r"\b((access|account|api|auth|encryption|license|master|private|service|shared|signing|ssh|storage|subscription) "
    r"keys?|remote url|notify urls)\b"
)
_TOKEN_FORM = re.compile(  # tokens of services that a training talks to
    r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{30,}|xox[a-z]-[\w-]{10,}"
    r"|sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w+/=.~-]{20,}", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]+@")  # up to the last @, since a password may contain one
_URL_QUERY = re.compile(r"(://[^\s?#]*\?)[^\s#]+")
_WORD = 8  # a shorter value, or one of letters only, would match unrelated text
_LONG_WORD = 16
_TOKEN = 16  # a path part this long with letters and digits is a token, not a name


class Plain(str):
    """A string that is not a secret whatever its name, such as the pattern of a layer group called `token`."""

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return a string, or the strings of a list, marked as `Plain`; anything else unchanged."""
        if isinstance(value, (list, tuple)):
            return type(value)(cls.of(item) for item in value)
        return cls(value) if isinstance(value, str) else value


class Secret(str):
    """A string whose `repr`, and copy by `without_secrets`, shows something else.

    So a callback can keep a secret in an attribute like any other argument. `str` and f-strings show the secret.

    Args:
        value: The secret.
        shown: What to show instead.

    Example:
        >>> key = Secret("k3y")
        >>> key == "k3y", repr(key), without_secrets({"any name": key})
        (True, "'***'", {'any name': '***'})
    """

    shown: str

    def __new__(cls, value: str, shown: str = HIDDEN) -> Secret:
        """Create the string with what it shows."""
        secret = super().__new__(cls, value)
        secret.shown = shown
        return secret

    def __repr__(self) -> str:
        return repr(self.shown)


def secret_url(url: str) -> Secret:
    """Return a URL that hides its login, its query, and path parts that look like tokens.

    Example:
        >>> secret_url("https://me:pw@host.org:8443/hooks/0f3c9ad2b1e84d7795ab?key=1")
        'https://***@host.org:8443/hooks/***?***'
    """
    parts = urlsplit(_URL_LOGIN.sub(f"{HIDDEN}@", url))
    path = "/".join(HIDDEN if _looks_random(part) else part for part in parts.path.split("/"))
    shown = f"{parts.scheme}://{parts.netloc}{path}"
    return Secret(url, shown + (f"?{HIDDEN}" if parts.query else "") + (f"#{HIDDEN}" if parts.fragment else ""))


def unless_hidden(name: str, value: Any, variable: str) -> Any:
    """Return an argument, or None if `run.json` has hidden it and an environment variable holds it.

    Args:
        name: The argument's name.
        value: Its value.
        variable: The environment variable that may hold it.

    Raises:
        ValueError: If it is hidden and the variable is not set.
    """
    texts = value if isinstance(value, (list, tuple)) else [value]
    if not any(isinstance(text, str) and HIDDEN in text for text in texts):
        return value
    if os.environ.get(variable):
        return None
    raise ValueError(f"{name} is hidden in run.json: set the environment variable {variable}")


def hide(text: str, also: Iterable[str] = ()) -> str:
    """Hide secrets in a text: logins and queries in URLs, tokens, and secrets from the environment.

    Tokens are recognized by their form (`ghp_...`, `hf_...`, `AKIA...`, `Bearer ...`).

    A secret from the environment is the value of a variable with a secret-looking name (`WANDB_API_KEY`), unless it is
    short enough to be an everyday word or is the path of a file.

    Args:
        text: Any text, such as an exception's message.
        also: Other secrets to hide.

    Example:
        >>> hide("cannot read https://me:pw@host/data.zip?token=abc")
        'cannot read https://***@host/data.zip?***'
    """
    return _hide(text, [*also, *_environment_secrets()])


def without_secrets(value: Any, name: str = "") -> Any:
    """Return a copy that hides the values of secret-looking names, and secrets in every other text as `hide` does.

    Names are judged by whole words: `api_key` and `AuthToken`, but not `keypoints` or `max_tokens`.

    Example:
        >>> without_secrets({"api_key": "abc", "url": "https://me:pw@host/x", "keypoints": "17"})
        {'api_key': '***', 'url': 'https://***@host/x', 'keypoints': '17'}
    """
    return _without(value, name, list(_environment_secrets()))


def _without(value: Any, name: str, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without(item, str(key), secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(item, name, secrets) for item in value]
    if isinstance(value, str):
        if value and not isinstance(value, Plain) and _is_secret(_words(name)):
            return HIDDEN
        return value.shown if isinstance(value, Secret) else _hide(value, secrets)
    return value


def _hide(text: str, secrets: Iterable[str]) -> str:
    # longest first, since one secret may start with another
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if secret else text
    text = _URL_QUERY.sub(rf"\g<1>{HIDDEN}", _URL_LOGIN.sub(f"{HIDDEN}@", text))
    return _BEARER.sub(rf"\g<1> {HIDDEN}", _TOKEN_FORM.sub(HIDDEN, text))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def _is_secret(words: list[str]) -> bool:
    return any(_SECRET_WORD.fullmatch(word) for word in words) or bool(_SECRET_WORDS.search(" ".join(words)))


def _environment_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        words = _words(name)
        if _is_secret(words) or any(word.endswith("key") for word in words):  # for variables, any key
            for part in re.split(r"[\s,]+", value) if "://" in value else [value.strip()]:
                if _is_worth_hiding(part):
                    yield part


def _is_worth_hiding(value: str) -> bool:
    if len(value) < (_LONG_WORD if value.isalpha() else _WORD):
        return False
    try:
        return not (("/" in value or os.sep in value) and Path(value).exists())
    except OSError:  # too long for a path
        return True


def _looks_random(part: str) -> bool:
    return len(part) >= _TOKEN and any(c.isdigit() for c in part) and any(c.isalpha() for c in part)
