import base64
import hashlib
import time
from email.utils import formatdate

import pytest

from tests.receiver import Receiver, free_port
from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.reporting.webhook import Webhook, check_headers, check_url, retry_after, secret_bytes, sign

KEY = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def hmac_sha256(key, text):
    """RFC 2104 by hand, so that the package is not checked with what it uses itself."""
    key = hashlib.sha256(key).digest() if len(key) > 64 else key
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + text).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def post(url, body=b"{}", headers=None, key=None, timeout=5.0, seconds=60.0):
    Webhook(url, headers, key, timeout, "test/1").post(body, "msg-1", seconds)


def test_the_signature_is_that_of_the_specification():
    """The example of https://github.com/standard-webhooks/standard-webhooks."""
    key = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [f"whsec_{KEY}", "just some words", "x" * 100, "schlüssel"])
def test_the_signature_is_over_the_very_bytes(secret):
    body = '{"name": "größe", "a": null}'.encode()
    with Receiver() as server:
        post(f"{server.url}/hook?a=b", body, key=secret_bytes(secret))
        (request,) = server.requests
    assert request.body == body
    assert request.path == "/hook?a=b"
    headers = request.headers
    assert (headers["content-type"], headers["user-agent"]) == ("application/json", "test/1")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    key = base64.b64decode(KEY) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac_sha256(key, signed)).decode()


def test_without_a_secret_there_is_no_signature():
    with Receiver() as server:
        post(server.url)
        assert "webhook-signature" not in server.requests[0].headers
        assert server.requests[0].headers["webhook-id"] == "msg-1"


def test_a_secret_that_is_not_base64_is_not_told():
    with pytest.raises(ValueError, match="not base64") as error:
        secret_bytes("whsec_my secret")
    assert "my secret" not in str(error.value)


def test_a_login_becomes_basic_authentication_and_netrc_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login stranger password other\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Receiver() as server:
        post(server.url.replace("://", "://me:p%40ss@"))
        post(server.url, headers={"Authorization": "Bearer mine"})
        first, second = server.requests
    assert base64.b64decode(first.headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert second.headers["authorization"] == "Bearer mine"


def test_a_proxy_is_asked_for_other_machines_and_never_for_this_one(monkeypatch):
    with Receiver() as proxy, Receiver() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        post(server.url)
        assert (len(server.requests), len(proxy.requests)) == (1, 0)
        post("http://nobody.invalid/x")
        assert [request.path for request in proxy.requests] == ["http://nobody.invalid/x"]


def test_why_a_server_is_not_reached_is_told_without_the_url():
    for url in (f"http://127.0.0.1:{free_port()}/p4th?t0ken=1", "http://t0ken.invalid/p4th"):
        with pytest.raises(NotDelivered) as error:
            post(url)
        assert error.value.again
        assert not error.value.answered
        assert error.value.why.startswith("the server cannot be reached (")
        assert not any(part in repr(error.value) for part in ("t0ken", "p4th"))
        assert error.value.__cause__ is None


def test_a_server_that_does_not_speak_http_or_tls_is_not_reached():
    with Receiver() as server, pytest.raises(NotDelivered, match="the server cannot be reached") as error:
        post(server.url.replace("http:", "https:"))
    assert error.value.again


@pytest.mark.parametrize(
    ("url", "allow_http", "fine"),
    [
        ("https://example.org/x", False, True),
        ("http://localhost:8000", False, True),
        ("http://127.9.9.9/x", False, True),
        ("http://[::1]:80/x", False, True),
        ("http://example.org/x", True, True),
        ("http://example.org/x", False, False),
        ("http://10.0.0.1/x", False, False),
        ("http://localhost.example.org/x", False, False),
        ("http://127.0.0.1.example.org/x", False, False),
        ("http://localhost@example.org/x", False, False),
        ("http://example.org\\@127.0.0.1/x", False, False),
        ("http://127.0.0.1 @example.org/x", False, False),
        ("http://0.0.0.0/x", False, False),
        ("ftp://localhost/x", True, False),
        ("file:///etc/passwd", True, False),
        ("localhost:8000", True, False),
        ("https://", True, False),
        ("https://host:port/", True, False),
        ("https://[broken/", True, False),
        ("", True, False),
    ],
)
def test_https_is_asked_for_unless_it_stays_here_or_is_allowed(url, allow_http, fine):
    if fine:
        assert check_url("url", url, allow_http=allow_http) == url
    else:
        with pytest.raises(ValueError, match=r"^url"):
            check_url("url", url, allow_http=allow_http)


def test_a_wrong_url_is_not_told():
    for url in ("http://me:pa55word@example.org/t0ken", "ftp://me:pa55word@example.org/t0ken"):
        with pytest.raises(ValueError, match="url") as error:
            check_url("url", url, allow_http=False)
        assert "pa55word" not in str(error.value)
        assert "t0ken" not in str(error.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"webhook-signature": "x"},
        {"a b": "x"},
        {"": "x"},
        {"A": "x\r\nB: y"},
        {"A": "ü"},
    ],
)
def test_headers_that_cannot_be_given(headers):
    with pytest.raises(ValueError, match="headers"):
        check_headers("headers", headers)


def test_headers_are_strings():
    for wrong in ("A: b", ["A"], {"A": 1}):
        with pytest.raises(TypeError, match="headers"):
            check_headers("headers", wrong)


def test_retry_after_may_be_a_date():
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) < 61
    assert retry_after("-5") is None
    assert retry_after("nan") is None
