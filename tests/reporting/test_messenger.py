"""One message to one service, once: what is sent, and what an answer means."""

import logging
import re
import threading

import apprise
import pytest
from apprise.plugins.custom_json import NotifyJSON
from hypothesis import given
from hypothesis import strategies as st

from tests.receiver import Receiver, free_port
from yolo_callbacks.reporting.messenger import Message, check_urls, scheme_of, send, without_mentions
from yolo_callbacks.reporting.outbox import Attempt, NotDelivered
from yolo_callbacks.support.secrets import Secret, without_secrets

FIRST = Attempt(number=1, answers=0, lost=0, seconds=float("inf"))


def to(port, message=None, attempt=FIRST):
    send(Secret(f"json://127.0.0.1:{port}/t0ken"), message or Message("title", "body", "info", None), attempt)


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "curves.png"
    file.write_bytes(b"a picture")
    return Message("title", "body", "info", file)


@pytest.mark.parametrize("kind", ["info", "success", "warning", "failure"])
def test_a_message_is_sent_once_as_it_is(kind):
    with Receiver() as server:
        to(server.port, Message("a *title*", "<b>one</b>\n& two", kind, None))
        (request,) = server.requests
    assert [request.json[name] for name in ("title", "message", "type")] == ["a *title*", "<b>one</b>\n& two", kind]


def test_it_is_sent_by_the_thread_that_asks(monkeypatch):
    threads = []
    monkeypatch.setattr(NotifyJSON, "send", lambda *_, **__: not threads.append(threading.current_thread()))
    to(1)
    assert threads == [threading.current_thread()]


def test_an_older_apprise_has_fewer_settings(monkeypatch):
    def older(async_mode=True):
        assert not async_mode
        return settings

    settings = apprise.AppriseAsset(async_mode=False)
    monkeypatch.setattr(apprise, "AppriseAsset", older)
    with Receiver() as server:
        to(server.port)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "again"),
    [(400, False), (401, False), (404, False), (413, False), (408, True), (425, True), (429, True), (500, True)],
)
def test_a_service_that_answers_no(status, again, caplog):
    with Receiver((status, {})) as server, caplog.at_level(logging.DEBUG), pytest.raises(NotDelivered) as caught:
        to(server.port)
    error = caught.value
    assert (error.why, error.again, error.answered) == (f"the service answered {status}", again, True)
    assert "t0ken" not in error.why + caplog.text


def test_a_service_that_is_not_there():
    with pytest.raises(NotDelivered, match=r"^the service cannot be reached$") as caught:
        to(free_port())
    assert (caught.value.again, caught.value.answered) == (True, False)


def test_a_service_that_refuses_without_a_reason(monkeypatch):
    monkeypatch.setattr(NotifyJSON, "send", lambda *_, **__: False)
    with pytest.raises(NotDelivered, match=r"^the service did not accept the message$") as caught:
        to(1)
    assert (caught.value.again, caught.value.answered) == (True, True)


# ------------------------------------------------------------------------------------------------- the picture


@pytest.mark.parametrize(("answers", "attached"), [(0, 1), (1, 0), (3, 0)])
def test_a_picture_is_attached_until_the_service_has_rejected_a_message(answers, attached, picture):
    with Receiver() as server:
        to(server.port, picture, FIRST._replace(number=5, answers=answers))
        assert len(server.requests[0].json["attachments"]) == attached


def test_a_message_that_is_rejected_with_its_picture_may_be_taken_without_it(picture):
    with Receiver((413, {}), (413, {})) as server:
        with pytest.raises(NotDelivered) as caught:
            to(server.port, picture)
        assert caught.value.again
        with pytest.raises(NotDelivered) as caught:
            to(server.port, picture, FIRST._replace(number=2, answers=1))
        assert not caught.value.again


@pytest.mark.parametrize("why", ["no file", "no support"])
def test_a_message_without_a_picture_is_sent_all_the_same(why, picture, monkeypatch):
    if why == "no file":
        picture.picture.unlink()
    else:
        monkeypatch.setattr(NotifyJSON, "attachment_support", False)
    with Receiver() as server:
        to(server.port, picture)
        assert server.requests[0].json["attachments"] == []


# ------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ("ntfy://s3cret", ["ntfy://s3cret"]),
        (" ntfy://a , json://h/b,c ", ["ntfy://a", "json://h/b,c"]),  # a comma may belong to a URL
        (["ntfy://a", " ", "json://h\n"], ["ntfy://a", "json://h"]),
        (("NTFY://a",), ["NTFY://a"]),
    ],
)
def test_urls_are_kept_as_secrets_that_show_the_service(urls, expected):
    found = check_urls("urls", urls)
    assert found == expected
    assert without_secrets(found) == [f"{url.partition(':')[0].lower()}://***" for url in expected]


@pytest.mark.parametrize(
    ("urls", "error", "message"),
    [
        (None, TypeError, "^urls must be an apprise URL such as"),
        (["ntfy://a", None], TypeError, "^urls must be an apprise URL such as"),
        ("", ValueError, "^urls must have at least one apprise URL"),
        (", ", ValueError, "^urls must have at least one apprise URL"),
        ("slack://s3cret", ValueError, "^urls: apprise cannot use this slack:// URL, see https:"),
        (
            "ntfy://a nothing://s3cret",
            ValueError,
            "^urls, number 2: apprise cannot use this nothing:// URL, see https:",
        ),
        ("s3cret", ValueError, r"^urls: apprise cannot use this \?:// URL, see https:"),
    ],
)
def test_urls_that_cannot_be_used(urls, error, message, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(error, match=message) as caught:
        check_urls("urls", urls)
    assert "s3cret" not in str(caught.value) + caplog.text


@given(st.text())
def test_a_scheme_shows_nothing_else_of_a_url(text):
    scheme = scheme_of(text)
    assert scheme == "?" or text.lower().startswith(f"{scheme}://")
    assert "/" not in scheme
    assert len(scheme) < 32


# ------------------------------------------------------------------------------------------------- mentions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@everyone", "@|everyone"),
        ("(@me) and @you", "(@|me) and @|you"),
        ("<@U1> <!here> <#C1>", "<|@|U1> <|!here> <|#C1>"),
        ("me@example.org", "me@example.org"),
        ("https://***@host/x", "https://***@host/x"),  # a login that is hidden
        ("a @ b < c <d>", "a @ b < c <d>"),
    ],
)
def test_mentions_are_broken_up(text, expected):
    assert without_mentions(text).replace("\u200b", "|") == expected


@given(st.text(alphabet="@<!#*a .\u200b"))
def test_nobody_is_mentioned_and_nothing_is_lost(text):
    safe = without_mentions(text)
    assert safe.replace("\u200b", "") == text.replace("\u200b", "")
    assert not re.search(r"(?<!\w)(?<!\*\*\*)@\w|<[!@#]", safe)
    assert without_mentions(safe) == safe
