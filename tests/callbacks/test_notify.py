import base64
import json
import logging
import threading
import time
from email import message_from_bytes

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.callbacks.session_stub import SessionStub
from tests.helpers import NAN, record
from tests.receiver import TIMEOUT, Receiver, free_port
from yolo_callbacks import History, Notify, PlotLogger, Stop, StopReason
from yolo_callbacks.callbacks import notify as module
from yolo_callbacks.config import ConfigError, restore_callbacks
from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.core.monitor import Monitor, ProgressFold
from yolo_callbacks.reporting.news import NewsFold
from yolo_callbacks.support.secrets import without_secrets

PICTURE = b"\x89PNG\r\n\x1a\n not much of a picture"


class Plots(PlotLogger):
    """Takes part as the real one does, and draws nothing: nobody writes a journal here."""

    def act(self, session):
        pass

    close = deliver = setup = lambda *_: None


def as_json(server):
    return f"json://127.0.0.1:{server.port}/t0ken"


def as_form(server):
    return f"form://127.0.0.1:{server.port}/t0ken"


def told(server):
    """Return title, body and type of each message that came by json://, which tells all of them as strings."""
    return [(m["title"], m["message"], m["type"]) for m in (request.json for request in server.requests)]


def parts(request):
    """Return the parts of a form by name."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.get_payload()
    }


def test_a_run_in_messages():
    with Receiver() as server:
        session = SessionStub(Notify(as_json(server), min_interval_minutes=0))
        session.begin()
        for value in (0.1, 0.3, 0.2, NAN, 0.4):
            session.epoch(value)
            server.wait(len(server.requests))  # not a queue of bests: each replaces the one that waits
            _settle(session)
        session.end(stop=Stop("stop, enough", 5, "Enough", StopReason.PLATEAU))
        assert told(server) == [
            ("detect/train: started", "10 epochs of yolo26n.pt (detect) on coco8.yaml, cpu", "info"),
            ("detect/train: new best", "fitness 0.1 in epoch 1 of 10\nabout 1 min left", "info"),
            ("detect/train: new best", "fitness 0.3 in epoch 2 of 10, before 0.1 in epoch 1\nabout 1 min left", "info"),
            ("detect/train: new best", "fitness 0.4 in epoch 5 of 10, before 0.3 in epoch 2\nabout 50 s left", "info"),
            (
                "detect/train: stopped early",
                "5 of 10 epochs in 50 s\nstop, enough\nbest fitness: 0.4 in epoch 5",
                "success",
            ),
        ]


def test_names_and_errors_mention_nobody(tmp_path):
    with Receiver() as server:
        folder = tmp_path / "@here" / "<!channel> run"
        session = SessionStub(Notify(as_json(server), ["failure"], title="<@42> {project}/{name}"), folder=folder)
        session.begin()
        session.epoch(0.5)
        session.end(RuntimeError("@everyone: ask me@example.org or <@&17> for @token, https://x:p!@h/"))
        ((title, body, _),) = told(server)
    assert title == "<@42> @\u200bhere/<\u200b!channel> run"  # the title's own is meant
    assert "@\u200beveryone: ask me@example.org or <\u200b@&17> for @\u200btoken, https://***@h/" in body


def _settle(session):
    for callback in session.callbacks.values():
        for outbox in callback._live:
            assert outbox._worker.wait(TIMEOUT)


@pytest.mark.parametrize(
    ("error", "reason", "expected"),
    [
        (None, None, ("finished", "success", "10 of 10 epochs in 1 min\nbest fitness: 0.5 in epoch 1")),
        (
            RuntimeError("out of memory"),
            None,
            (
                "failed",
                "failure",
                "10 of 10 epochs in 1 min\nRuntimeError: out of memory\nbest fitness: 0.5 in epoch 1",
            ),
        ),
        (
            KeyboardInterrupt(),
            None,
            ("interrupted", "warning", "10 of 10 epochs in 1 min\nKeyboardInterrupt\nbest fitness: 0.5 in epoch 1"),
        ),
        (
            SystemExit(143),
            StopReason.PREEMPTED,
            ("preempted", "warning", "10 of 10 epochs in 1 min\nSIGTERM arrived\nbest fitness: 0.5 in epoch 1"),
        ),
    ],
)
def test_how_a_run_ended(error, reason, expected):
    with Receiver() as server:
        session = SessionStub(Notify(as_json(server), ["stop", "failure"], title="{name} {event}"))
        session.begin()
        for _ in range(10):
            session.epoch(0.5)
        session.end(error, Stop("SIGTERM arrived", reason=reason) if reason else None)
        ((title, body, kind),) = told(server)
    assert (title.removeprefix("train "), kind, body) == expected


@pytest.mark.parametrize("events", [["start"], ["best"], ["stop"], ["failure"], []])
def test_only_what_was_asked_for_is_told(events):
    with Receiver() as server:
        for error in (None, RuntimeError()):
            session = SessionStub(Notify(as_json(server), events, min_interval_minutes=0))
            session.begin()
            session.epoch(0.5)
            session.end(error)
        titles = [title.removeprefix("detect/train: ") for title, _, _ in told(server)]
    expected = {"start": ["started"] * 2, "best": ["new best"] * 2, "stop": ["finished"], "failure": ["failed"]}
    assert titles == [title for event in events for title in expected[event]]


def test_a_resumed_run_does_not_tell_of_an_old_best_again():
    with Receiver() as server:
        session = SessionStub(Notify(as_json(server), min_interval_minutes=0), resumed=True)
        for number, value in enumerate((0.1, 0.5, 0.2), start=1):
            session.history.append(record(number, value))
        session.begin()
        session.epoch(0.3)
        session.epoch(0.6)
        session.end()
        assert [(title.removeprefix("detect/train: "), body.split("\n")[0]) for title, body, _ in told(server)] == [
            ("resumed", "epochs 4 to 10 of yolo26n.pt (detect) on coco8.yaml, cpu"),
            ("new best", "fitness 0.6 in epoch 5 of 10, before 0.5 in epoch 2"),
            ("finished", "5 of 10 epochs in 50 s"),
        ]


# ------------------------------------------------------------------------------------------------- how often


def told_in(values, minutes, seconds_each):
    fold = NewsFold(ProgressFold(Monitor.of("fitness")), 60.0 * minutes)
    history, found = History(), []
    for epoch, value in enumerate(values, start=1):
        history.append(record(epoch, value, elapsed=epoch * seconds_each))
        news = history.fold(fold)
        if news.told_in == epoch:
            found.append((epoch, news.told_epoch, news.told))
    return found


def test_a_best_that_came_too_soon_is_told_when_the_time_has_passed():
    values = [0.1, 0.2, 0.3, 0.25, 0.2, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert told_in(values, minutes=1, seconds_each=15) == [(4, 3, 0.3), (8, 6, 0.4)]


def test_a_score_of_0_is_no_news():
    assert told_in([0.0, 0.0, 0.1, 0.0], minutes=0, seconds_each=60) == [(3, 3, 0.1)]
    with Receiver() as server:
        session = SessionStub(Notify(as_json(server), min_interval_minutes=0))
        session.begin()
        session.epoch(0.0)
        session.end()
        bodies = [body for _, body, _ in told(server)]
    assert bodies[1:] == ["1 of 10 epochs in 10 s\nfitness is still 0"]


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(0, 10))
def test_no_two_are_told_within_the_interval_and_each_is_better_than_the_last(values, minutes):
    found = told_in(values, minutes, seconds_each=30)
    told_after = [epoch * 30 for epoch, _, _ in found]
    assert all(second - first >= 60 * minutes for first, second in zip([0, *told_after], told_after))
    assert [value for _, _, value in found] == sorted({value for _, _, value in found})
    for epoch, best_epoch, value in found:
        assert value == values[best_epoch - 1] == max(values[:epoch])


# ------------------------------------------------------------------------------------------------- the picture


def with_picture(tmp_path, *urls, plots=True, **options):
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "mine.png").write_bytes(PICTURE)
    notify = Notify(list(urls), ["start", "stop"], **options)
    return SessionStub(*[Plots("mine.png")] * plots, notify, folder=tmp_path)


def test_a_picture_goes_to_the_services_that_take_one(tmp_path):
    with Receiver() as form, Receiver() as data:
        session = with_picture(tmp_path, as_form(form), as_json(data))
        session.begin()
        session.end()
        assert "file01" not in parts_or_form(form.requests[0])
        sent = parts(form.requests[1])
        assert sent["file01"] == PICTURE
        assert sent["message"] == b"0 of 10 epochs"
        assert [len(request.json["attachments"]) for request in data.requests] == [0, 1]
        assert base64.b64decode(data.requests[1].json["attachments"][0]["base64"]) == PICTURE


def parts_or_form(request):
    return parts(request) if "multipart" in request.headers["content-type"] else {}


def test_a_service_that_does_not_take_the_picture_gets_the_message(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    with Receiver((200, {}), (413, {})) as server:
        session = with_picture(tmp_path, as_form(server))
        session.begin()
        session.end()
        assert [("multipart" in request.headers["content-type"]) for request in server.requests] == [False, True, False]


@pytest.mark.parametrize("why", ["no PlotLogger", "with_picture=False", "no file", "no support"])
def test_there_is_no_picture(why, tmp_path, monkeypatch):
    from apprise.plugins.custom_form import NotifyForm

    with Receiver() as server:
        options = {"plots": why != "no PlotLogger", "with_picture": why != "with_picture=False"}
        session = with_picture(tmp_path, as_form(server), **options)
        if why == "no file":
            (tmp_path / "callbacks" / "mine.png").unlink()
        if why == "no support":
            monkeypatch.setattr(NotifyForm, "attachment_support", False)
        session.begin()
        session.end()
        assert len(server.requests) == 2
        assert all("multipart" not in request.headers["content-type"] for request in server.requests)


# ------------------------------------------------------------------------------------------------- trouble


def test_a_service_that_is_down_holds_up_neither_the_others_nor_the_end(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 1.0)
    gate = threading.Event()

    def hang():
        gate.wait(TIMEOUT)
        return 200, {}

    with Receiver() as server, Receiver() as hanging:
        hanging.always = hang
        urls = [f"json://127.0.0.1:{free_port()}", as_json(hanging), as_json(server)]
        session = SessionStub(Notify(urls))
        session.begin()
        start = time.monotonic()
        session.end(RuntimeError())
        assert time.monotonic() - start < 3
        assert [title for title, _, _ in told(server)] == ["detect/train: started", "detect/train: failed"]
        gate.set()


@pytest.mark.parametrize(("status", "tries"), [(401, 1), (404, 1), (500, 2), (429, 2)])
def test_what_may_be_taken_later_is_tried_again(status, tries, monkeypatch, caplog):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    with Receiver((status, {})) as server, caplog.at_level(logging.DEBUG):
        session = SessionStub(Notify(as_json(server), ["start"]))
        session.begin()
        session.end()
        assert len(server.requests) == tries
    lines = [item.getMessage() for item in caplog.records if item.name.endswith("yolo_callbacks")]  # apprise talks too
    outcome = "it will be retried" if tries == 2 else "the message is dropped"
    assert lines[0].endswith(f"Notify (json): the service answered {status}; {outcome}, training continues")
    assert "t0ken" not in caplog.text


# ------------------------------------------------------------------------------------------------- arguments


URLS = ["discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV", "mailto://me:pa55word@example.org", "ntfy://s3cret-topic"]


def shows_none(text):
    return not any(secret in text for secret in ("4174216298", "JHMHI8qB", "pa55word", "s3cret-topic"))


def test_nothing_shows_a_token(monkeypatch):
    notify = Notify(URLS)
    assert "urls=['discord://***', 'mailto://***', 'ntfy://***']" in repr(notify)
    kept = json.loads(json.dumps(without_secrets(configuration({"Notify": notify}))))
    assert shows_none(json.dumps(kept))
    assert Notify(**cloudpickle.loads(cloudpickle.dumps(notify)).get_config()).urls == URLS
    monkeypatch.delenv("YOLO_CB_NOTIFY_URLS", raising=False)
    with pytest.raises(
        ConfigError, match=r"urls is hidden in run\.json: set the environment variable YOLO_CB_NOTIFY_URLS"
    ):
        restore_callbacks(kept)
    monkeypatch.setenv("YOLO_CB_NOTIFY_URLS", " ".join(URLS))
    (again,) = restore_callbacks(kept)
    assert again.urls is None
    assert again._targets() == URLS


@pytest.mark.parametrize(
    "text", [" ".join(URLS), ", ".join(URLS), ",".join(URLS), f"\n{URLS[0]}\n  {URLS[1]},{URLS[2]} "]
)
def test_several_urls_in_one_text(text):
    assert Notify(text).urls == URLS


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"urls": None}, ValueError, "Notify needs urls, or the environment variable YOLO_CB_NOTIFY_URLS"),
        ({"urls": []}, ValueError, "urls must have at least one apprise URL"),
        ({"urls": " "}, ValueError, "urls must have at least one apprise URL"),
        ({"urls": 5}, TypeError, "urls must be an apprise URL"),
        ({"urls": [5]}, TypeError, "urls must be an apprise URL"),
        ({"urls": "slack://pa55word"}, ValueError, r"urls: apprise cannot use this slack:// URL"),
        (
            {"urls": ["ntfy://x", "nonsense://pa55word"]},
            ValueError,
            r"urls, number 2: apprise cannot use this nonsense",
        ),
        ({"urls": "pa55word"}, ValueError, r"urls: apprise cannot use this \?:// URL"),
        ({"events": "best"}, TypeError, "events='best' must be a list of 'start', 'best', 'stop', 'failure'"),
        ({"events": ["stopp"]}, ValueError, r"events='stopp' is not one of .* \(did you mean 'stop'\?\)"),
        ({"monitor": "nonsense"}, ValueError, "monitor='nonsense' is not the name of a metric"),
        ({"min_interval_minutes": -1}, ValueError, "min_interval_minutes=-1 must be"),
        ({"with_picture": 1}, TypeError, "with_picture=1 must be True or False"),
        ({"title": "{nmae}"}, ValueError, r"title: key='nmae' is not one of .* \(did you mean 'name'\?\)"),
        ({"title": "{"}, ValueError, "title='{' is not a template"),
        ({"title": 5}, TypeError, "title=5 must be a template"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, sentence, monkeypatch, caplog):
    monkeypatch.delenv("YOLO_CB_NOTIFY_URLS", raising=False)
    with pytest.raises(error, match=sentence) as raised, caplog.at_level(logging.DEBUG):
        Notify(**{"urls": "ntfy://topic", **arguments})
    assert shows_none(str(raised.value) + caplog.text)


def test_without_apprise_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^Notify needs apprise: pip install apprise$"):
        Notify("ntfy://topic")
