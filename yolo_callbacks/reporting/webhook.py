"""Webhook: sends one signed POST and interprets the outcome, as in https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.support.checks import quoted
from yolo_callbacks.support.log import quiet
from yolo_callbacks.support.secrets import Secret, secret_url

if TYPE_CHECKING:
    import requests

OWN_HEADERS = ("content-type", "content-length", "host", "webhook-id", "webhook-timestamp", "webhook-signature")
"""Headers that users cannot set."""

_ENCODED = "whsec_"
_RETRY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_NO_PROXY: Mapping[str, Any] = {"http": None, "https": None, "all": None}
_MIN_TIMEOUT = 0.05  # seconds; requests accepts no timeout of 0


def check_url(name: str, url: object, *, allow_http: bool) -> Secret:
    """Return a valid URL as a secret that shows its host but no token.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it is not a URL, or is http to another machine and not allowed. The message does not show it.
    """
    if not isinstance(url, str):
        raise TypeError(f"{name} must be a URL such as 'https://host/path', not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    # parsers disagree on whether a backslash or a space belongs to the login or ends the host
    if not host or parts.scheme not in ("http", "https") or re.search(r"[\\\s\x00-\x1f\ud800-\udfff]", url):
        raise ValueError(f"{name} is not a URL such as 'https://host/path'")
    if parts.scheme == "http" and not is_loopback(host) and not allow_http:
        raise ValueError(
            f"{name}: http://{host} would send everything in clear text: use https, or pass allow_http=True"
        )
    return secret_url(url)


def check_headers(name: str, headers: object) -> dict[str, str] | None:
    """Return headers with their values as secrets.

    Raises:
        TypeError: If they are not a mapping of strings.
        ValueError: If a name is invalid or one of ours, or a value would begin a new line.
    """
    if headers is None:
        return None
    if not isinstance(headers, Mapping) or not all(isinstance(item, str) for pair in headers.items() for item in pair):
        raise TypeError(f"{name} must be a dict of strings such as {{'Authorization': 'Bearer ...'}}")
    for key, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key) or key.lower() in OWN_HEADERS:
            raise ValueError(
                f"{name}: {quoted(key)} is not a header that you can set; reserved are {', '.join(OWN_HEADERS)}"
            )
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"{name}: the value of {quoted(key)} must be printable ASCII")
    return {key: Secret(value) for key, value in headers.items()}


def secret_bytes(secret: str) -> bytes:
    """Return the key of a secret: decoded from base64 after `whsec_`, else its UTF-8 bytes.

    Raises:
        ValueError: If what follows `whsec_` is not base64.
    """
    if not secret.startswith(_ENCODED):
        try:
            return secret.encode()
        except UnicodeEncodeError:  # its text holds the secret
            raise ValueError("the secret is not valid Unicode") from None
    try:
        return base64.b64decode(secret.removeprefix(_ENCODED), validate=True)
    except ValueError:
        raise ValueError(f"the secret begins with '{_ENCODED}', but the rest is not base64") from None


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 over `id.timestamp.body`, in base64, after its version.

    Example:
        >>> sign(b"key", "msg_1", 1700000000, b"{}")
        'v1,XaXLFEFQ69Q4+demDWPEv5ydXczDW2mM5crCUEFcFBA='
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("10.0.0.1")
        (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class Webhook:
    """Posts JSON to one URL.

    Args:
        url: Where to; checked.
        headers: Headers to add.
        key: Key of the signature; None for no signature.
        timeout: Seconds for the connection, and again for the answer.
        agent: The User-Agent.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None, key: bytes | None, timeout: float, agent: str
    ) -> None:
        parts = urlsplit(str(url))
        login, _, place = parts.netloc.rpartition("@")
        self._url = urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
        user, _, password = login.partition(":")
        self._login = (unquote(user), unquote(password)) if login else None
        # clear text to this machine must not go through a proxy
        self._proxies = dict(_NO_PROXY) if is_loopback(parts.hostname or "") else {}
        self._headers = {"User-Agent": agent, **{name: str(value) for name, value in (headers or {}).items()}}
        self._key, self._timeout = key, timeout
        self.place = place

    def post(self, body: bytes, message_id: str, seconds: float) -> None:
        """Send a message, once.

        Args:
            body: The bytes to send and sign.
            message_id: The same for each retry.
            seconds: Time left.

        Raises:
            NotDelivered: If it was not accepted.
        """
        import requests

        timeout = max(_MIN_TIMEOUT, min(self._timeout, seconds))
        try:
            with quiet("urllib3.connectionpool"), requests.Session() as session:
                answer = session.post(
                    self._url,
                    data=body,
                    headers=self._headers | self._headers_of(body, message_id),
                    # without one, requests reads ~/.netrc and replaces a given Authorization header
                    auth=self._login or _unchanged,
                    timeout=(timeout, timeout),
                    allow_redirects=False,
                    proxies=self._proxies,
                    stream=True,  # the answer's body is never read, however long it is
                )
                answer.close()
        except requests.RequestException as error:
            # an error that is also a ValueError concerns the request: a retry would fail, too
            raise NotDelivered(_cause(error, timeout), again=not isinstance(error, ValueError)) from None
        _judge(answer)

    def _headers_of(self, body: bytes, message_id: str) -> dict[str, str]:
        now = int(time.time())  # of this attempt: receivers reject old timestamps
        headers = {"Content-Type": "application/json", "webhook-id": message_id, "webhook-timestamp": str(now)}
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, message_id, now, body)
        return headers


def _judge(answer: requests.Response) -> None:
    """Raise `NotDelivered` unless the answer says that the message was accepted."""
    code = answer.status_code
    if HTTPStatus.OK <= code < HTTPStatus.MULTIPLE_CHOICES:
        return
    what = f"the server answered {code}"
    if code in _RETRY or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NotDelivered(what, answered=True, after=retry_after(answer.headers.get("Retry-After")))
    if code < HTTPStatus.BAD_REQUEST:
        what += ", but redirects are not followed: use the final URL"
    raise NotDelivered(what, again=False, answered=True)


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None if it is missing or invalid.

    Example:
        >>> retry_after("120"), retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), retry_after("soon")
        (120.0, 0.0, None)
    """
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _cause(error: requests.RequestException, timeout: float) -> str:
    """Return why a server was not reached, without the error's own text, which holds the URL."""
    import requests

    if isinstance(error, requests.Timeout):
        what = "connection" if isinstance(error, requests.ConnectTimeout) else "answer"
        return f"no {what} within {timeout:g} s"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused the connection"
    for cause in _chain(error):
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException) and cause.strerror:
            return f"the server cannot be reached ({cause.strerror})"
    return f"the server cannot be reached ({type(error).__name__})"


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and its causes."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
