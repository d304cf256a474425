"""Messenger: sends one message to one apprise service, and interprets the outcome."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_callbacks.reporting.outbox import Attempt, NotDelivered
from yolo_callbacks.support.checks import items_of
from yolo_callbacks.support.log import quiet
from yolo_callbacks.support.secrets import HIDDEN, Secret

SERVICES = "https://appriseit.com/services/"
"""Where the URLs of all services are listed."""

_RETRY = {408, 425, 429}


@dataclass(frozen=True)
class Message:
    """A message to people.

    Attributes:
        title: One line.
        body: Some lines of plain text.
        kind: `"info"`, `"success"`, `"warning"` or `"failure"`.
        picture: Image to attach, if the file exists.
    """

    title: str
    body: str
    kind: str
    picture: Path | None


def send(url: Secret, message: Message, attempt: Attempt) -> None:
    """Send a message to one service, once. The log of apprise and its HTTP client is suppressed: it holds the URL."""
    import apprise

    with quiet("apprise", "urllib3.connectionpool") as said:
        sender = apprise.Apprise(asset=_in_this_thread())
        sender.add(str(url))
        if hasattr(sender[0], "redirects") and "redirect=" not in url.lower():
            sender[0].redirects = False  # they would take the headers of a URL, and the message, to another server
        # a service that rejected the message may have rejected its image
        picture = message.picture if not attempt.answers and sender[0].attachment_support else None
        attached = str(picture) if picture is not None and picture.exists() else None
        taken = sender.notify(
            title=message.title,
            body=message.body,
            notify_type=message.kind,
            body_format=apprise.NotifyFormat.TEXT,
            attach=attached,
        )
    if taken:
        return
    codes = re.findall(r"error=(\d{3})\b", " ".join(said))
    code = int(codes[-1]) if codes else None
    unreachable = any("onnection error" in line for line in said)
    why = f"answered {code}" if code else "cannot be reached" if unreachable else "did not accept the message"
    refused = attached is None and code is not None and 300 <= code < 500 and code not in _RETRY
    raise NotDelivered(f"the service {why}", again=not refused, answered=not unreachable)


def _in_this_thread() -> Any:
    """Return settings that make apprise send from the calling thread; a thread of its own would delay the exit."""
    import apprise

    try:
        return apprise.AppriseAsset(async_mode=False, service_timeout=0)
    except (AttributeError, TypeError):  # older versions have neither this limit nor the thread behind it
        return apprise.AppriseAsset(async_mode=False)


def check_urls(name: str, urls: object) -> list[Secret]:
    """Return the URLs as secrets that show their scheme.

    Raises:
        TypeError: If they are not strings.
        ValueError: If there is none, or apprise cannot use one; the message shows only its scheme.
    """
    if isinstance(urls, str):
        urls = re.split(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", urls.strip(" \t\r\n,"))
    items = items_of(urls)
    given: list[Any] = [urls] if items is None else items
    if not all(isinstance(url, str) for url in given):
        raise TypeError(f"{name} must be an apprise URL such as 'ntfy://topic', or a list of them")
    given = [url.strip() for url in given if url.strip()]
    if not given:
        raise ValueError(f"{name} must have at least one apprise URL such as 'ntfy://topic'")
    import apprise

    for number, url in enumerate(given, start=1):
        with quiet("apprise"):
            service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if service is None:
            place = f"{name}, number {number}" if len(given) > 1 else name
            raise ValueError(f"{place}: apprise cannot use this {scheme_of(url)}:// URL, see {SERVICES}")
    return [Secret(url, f"{scheme_of(url)}://{HIDDEN}") for url in given]


def without_mentions(text: str) -> str:
    r"""Return a text that mentions nobody in chat services, where `@everyone` would notify all members.

    A zero-width space after the `@` prevents that; an address such as `me@example.org` stays unchanged.

    Example:
        >>> without_mentions("@all <!here> me@example.org").replace("\u200b", "|")
        '@|all <|!here> me@example.org'
    """
    return re.sub(r"(?<!\w)(?<!\*\*\*)@(?=\w)|<(?=[!@#])", "\\g<0>\u200b", text)


def scheme_of(url: str) -> str:
    """Return the scheme of a URL, which names the service."""
    scheme, separator, _ = str(url).partition("://")
    return scheme.lower() if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,30}", scheme) else "?"
