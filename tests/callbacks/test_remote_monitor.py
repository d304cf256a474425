import datetime
import json
import math
import pickle
import re
import threading
import time
import tracemalloc
from pathlib import Path

import cloudpickle
import pytest

from tests.callbacks.session_stub import SessionStub
from tests.helpers import NAN
from tests.receiver import TIMEOUT, Receiver, free_port
from yolo_callbacks import RemoteMonitor, SetLearningRate, Stop, StopReason, UnknownMetricError
from yolo_callbacks.callbacks import remote_monitor as module
from yolo_callbacks.config import ConfigError, restore_callbacks
from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.support.secrets import without_secrets

SECRETS = {"login": "m3", "password": "pa55word", "query": "qu3ry", "header": "h3ader", "secret": "s1gning"}
URL = "https://m3:pa55word@example.org/hook?token=qu3ry"


@pytest.fixture
def secretive():
    return RemoteMonitor(URL, {"X-Own": "h3ader"}, secret="s1gning")


def run_of(session, values=(), error=None, stop=None):
    session.begin()
    for value in values:
        session.epoch(value)
    session.end(error, stop)


def messages(server):
    return [request.json for request in server.requests]


def test_a_run_in_messages():
    with Receiver() as server:
        session = SessionStub(RemoteMonitor(server.url))
        session.begin()
        session.epoch(
            0.5, decisions=[Stop("stop, enough", 1, "Enough", StopReason.PLATEAU)], counters={"Enough/wait": 3}
        )
        session.end(stop=Stop("stop, enough", 1, "Enough", StopReason.PLATEAU))
        start, epoch, stop = messages(server)
    common = {
        "schema": 1,
        "lost": 0,
        "run": {"id": session.id, "name": "train", "project": "detect", "task": "detect", "model": "yolo26n.pt"},
    }
    for number, message in enumerate((start, epoch, stop), start=1):
        sent = datetime.datetime.fromisoformat(message.pop("time"))
        assert abs((datetime.datetime.now(datetime.timezone.utc) - sent).total_seconds()) < 60
        assert (message.pop("sequence"), message.pop("id")) == (number, f"{session.id}-{number}")
        assert {key: message.pop(key) for key in common} == common
    assert start == {
        "event": "start",
        "epoch": 0,
        "planned_epochs": 10,
        "data": "coco8.yaml",
        "device": "cpu",
        "processes": 1,
        "versions": session.run.describe()["versions"],
    }
    assert epoch == {
        "event": "epoch",
        "epoch": 1,
        "planned_epochs": 10,
        "seconds": 10.0,
        "validated": True,
        "metrics": {"train/box_loss": 1.0, "fitness": 0.5, "lr_factor": 1.0, "Enough/wait": 3},
        "decisions": [{"kind": "stop", "source": "Enough", "message": "stop, enough", "reason": "plateau"}],
    }
    assert stop == {
        "event": "stop",
        "epoch": 1,
        "planned_epochs": 10,
        "seconds": 10.0,
        "status": "stopped",
        "reason": "plateau",
        "message": "stop, enough",
        "error": None,
    }


@pytest.mark.parametrize(
    ("error", "reason", "expected"),
    [
        (None, None, ("stop", "finished", None, None)),
        (None, StopReason.INTERRUPTED, ("stop", "stopped", "interrupted", None)),
        (RuntimeError("a\nb"), None, ("failure", "failed", None, {"type": "RuntimeError", "message": "a\nb"})),
        (KeyboardInterrupt(), None, ("failure", "interrupted", None, {"type": "KeyboardInterrupt", "message": ""})),
        (SystemExit(143), StopReason.PREEMPTED, ("failure", "preempted", "preempted", None)),
    ],
)
def test_how_a_run_ended(error, reason, expected):
    with Receiver() as server:
        stop = Stop("so", reason=reason) if reason else None
        run_of(SessionStub(RemoteMonitor(server.url)), [0.5, 0.6], error=error, stop=stop)
        last = messages(server)[-1]
    assert (last["event"], last["status"], last["reason"], last["error"]) == expected
    assert last["message"] == ("so" if reason else "completed all 2 epochs" if error is None else None)


def test_messages_are_strict_json():
    def refuse(constant):
        raise AssertionError(constant)

    with Receiver() as server:
        run_of(SessionStub(RemoteMonitor(server.url)), [NAN, math.inf, -math.inf, None, 0.5, 1e308])
        epochs = [json.loads(request.body, parse_constant=refuse) for request in server.requests][1:-1]
    assert [epoch["metrics"].get("fitness", "none") for epoch in epochs] == [None, None, None, "none", 0.5, 1e308]
    assert [epoch["validated"] for epoch in epochs] == [True, True, True, False, True, True]


def test_only_the_numbers_that_were_asked_for_under_the_names_that_were_given():
    with Receiver() as server:
        monitor = RemoteMonitor(server.url, metrics=["mAP50-95", "lr_factor", "val_loss"])
        session = SessionStub(monitor)
        session.begin()
        session.epoch(0.25, key="metrics/mAP50-95(B)")
        session.end()
        assert messages(server)[1]["metrics"] == {"mAP50-95": 0.25, "lr_factor": 1.0}


def test_a_name_that_the_run_does_not_have_stops_it_before_it_begins():
    with Receiver() as server:
        monitor = RemoteMonitor(server.url, metrics=["fitnes"])
        with pytest.raises(UnknownMetricError, match=r"RemoteMonitor: 'fitnes' .* \(did you mean 'fitness'\?\)"):
            monitor.setup(SessionStub(monitor))
        assert server.requests == []


# ------------------------------------------------------------------------------------------------- what is documented

DOCUMENT = (Path(__file__).parents[2] / "docs" / "remote-monitor.md").read_text(encoding="utf-8")


def test_the_documented_messages_are_those_that_are_sent():
    documented = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]
    with Receiver() as server:
        for error in (None, RuntimeError("x")):
            session = SessionStub(RemoteMonitor(server.url))
            session.begin()
            session.epoch(0.5, decisions=[SetLearningRate("less", 1, "ReduceLROnPlateau", factor=0.5)])
            session.end(error)
        sent = {message["event"]: message for message in messages(server)}
    assert [example["event"] for example in documented] == ["start", "epoch", "stop", "failure"]
    for example in documented:
        message = sent[example["event"]]
        assert list(example) == list(message)
        assert list(example["run"]) == list(message["run"])
        assert example["schema"] == message["schema"]
        assert example["id"] == f"{example['run']['id']}-{example['sequence']}"
        if example["event"] == "epoch":
            assert list(example["decisions"][0]) == list(message["decisions"][0])
        if example["event"] == "failure":
            assert list(example["error"]) == list(message["error"])


def test_the_documented_check_of_the_signature_works():
    (snippet,) = (block for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if "is_genuine" in block)
    names = {}
    exec(snippet, names)
    with Receiver() as server:
        run_of(SessionStub(RemoteMonitor(server.url, secret="s1gning")))
        for request in server.requests:
            assert names["is_genuine"](b"s1gning", request.headers, request.body)
            assert not names["is_genuine"](b"another", request.headers, request.body)
            assert not names["is_genuine"](b"s1gning", request.headers, request.body + b" ")
            old = str(int(request.headers["webhook-timestamp"]) - 1000)
            assert not names["is_genuine"](b"s1gning", {**request.headers, "webhook-timestamp": old}, request.body)


def test_the_document_names_every_reason():
    for reason in StopReason:
        assert f"`{reason}`" in DOCUMENT


# ------------------------------------------------------------------------------------------------- sequence


def test_a_resumed_run_counts_on_and_two_monitors_count_for_themselves(tmp_path):
    with Receiver() as one, Receiver() as two:
        for resumed in (False, True):
            session = SessionStub(RemoteMonitor(one.url), RemoteMonitor(two.url), folder=tmp_path, resumed=resumed)
            run_of(session, [0.1, 0.2], error=None if resumed else RuntimeError("x"))
        for server in (one, two):
            assert [message["sequence"] for message in messages(server)] == list(range(1, 9))
            events = ["start", "epoch", "epoch", "failure", "resume", "epoch", "epoch", "stop"]
            assert [message["event"] for message in messages(server)] == events
            assert len({message["id"] for message in messages(server)}) == 8
            assert {message["run"]["id"] for message in messages(server)} == {session.id}


def test_after_a_kill_no_number_comes_twice(tmp_path):
    with Receiver() as server:
        killed = SessionStub(RemoteMonitor(server.url), folder=tmp_path)
        killed.begin()
        for _ in range(5):
            killed.epoch(0.1)
        server.wait(6)
        run_of(SessionStub(RemoteMonitor(server.url), folder=tmp_path, resumed=True), [0.1])
        numbers = [message["sequence"] for message in messages(server)]
    assert numbers == [1, 2, 3, 4, 5, 6, 1001, 1002, 1003]


# ------------------------------------------------------------------------------------------------- what it costs


def test_ten_thousand_epochs_with_a_server_that_is_gone_cost_neither_time_nor_memory():
    monitor = RemoteMonitor(f"http://127.0.0.1:{free_port()}")
    session, notes = SessionStub(monitor, planned=10_000), []
    keep = session.files.remember
    session.files.remember = lambda name, **note: (notes.append(name), keep(name, **note))
    session.begin()
    session.epoch(0.1)
    act = monitor.act
    tracemalloc.start()
    for _ in range(500):  # its queue is full by then
        act(session)
    before = tracemalloc.get_traced_memory()[0]
    longest, start = 0.0, time.perf_counter()
    for _ in range(9_500):
        began = time.perf_counter()
        act(session)
        longest = max(longest, time.perf_counter() - began)
    took = time.perf_counter() - start
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert took < 10  # a millisecond each with tracemalloc, which makes it several times slower
    assert longest < 1
    assert grown < 300_000
    assert len(notes) <= 12
    start = time.perf_counter()
    session.end(KeyboardInterrupt())
    assert time.perf_counter() - start < module.HURRY + 2


@pytest.mark.parametrize(("error", "bound"), [(RuntimeError(), "GRACE"), (KeyboardInterrupt(), "HURRY")])
def test_the_end_waits_so_long_and_no_longer_for_a_server_that_hangs(error, bound, monkeypatch):
    assert (module.GRACE, module.HURRY) == (10.0, 3.0)
    monkeypatch.setattr(module, "GRACE", 1.0)
    monkeypatch.setattr(module, "HURRY", 0.3)
    gate = threading.Event()

    def hang():
        gate.wait(TIMEOUT)
        return 200, {}

    with Receiver() as server:
        server.always = hang
        session = SessionStub(RemoteMonitor(server.url, timeout=TIMEOUT))
        session.begin()
        server.wait(1)
        start = time.monotonic()
        session.end(error)
        assert getattr(module, bound) * 0.8 < time.monotonic() - start < getattr(module, bound) + 2
        gate.set()


# ------------------------------------------------------------------------------------------------- secrets


def shows_none(text):
    return not any(secret in text for secret in SECRETS.values())


def test_nothing_shows_a_secret(secretive):
    assert shows_none(repr(secretive))
    assert "https://***@example.org/hook?***" in repr(secretive)
    assert shows_none(json.dumps(without_secrets(configuration({"RemoteMonitor": secretive}))))
    again = RemoteMonitor(**cloudpickle.loads(cloudpickle.dumps(secretive)).get_config())
    assert (again.url, again.headers, again.secret) == (URL, {"X-Own": "h3ader"}, "s1gning")
    assert shows_none(repr(again))


def test_the_environment_keeps_what_it_gives(monkeypatch):
    monkeypatch.setenv("YOLO_CB_REMOTE_URL", URL)
    monkeypatch.setenv("YOLO_CB_REMOTE_SECRET", "s1gning")
    monitor = RemoteMonitor()
    assert (monitor.url, monitor.secret) == (None, None)
    assert shows_none(pickle.dumps(monitor).decode("latin-1"))
    with Receiver() as server:
        monkeypatch.setenv("YOLO_CB_REMOTE_URL", server.url)
        run_of(SessionStub(monitor))
        assert server.requests[0].headers["webhook-signature"].startswith("v1,")


def test_from_run_json_it_needs_the_environment(secretive, monkeypatch):
    plain = RemoteMonitor("https://example.org/hook", metrics=["fitness"])
    kept = json.loads(json.dumps(without_secrets(configuration({"RemoteMonitor": plain}))))
    assert restore_callbacks(kept)[0].get_config() == plain.get_config()
    monkeypatch.delenv("YOLO_CB_REMOTE_URL", raising=False)
    kept = json.loads(json.dumps(without_secrets(configuration({"RemoteMonitor": RemoteMonitor(URL, secret="x")}))))
    with pytest.raises(
        ConfigError, match=r"url is hidden in run\.json: set the environment variable YOLO_CB_REMOTE_URL"
    ):
        restore_callbacks(kept)
    monkeypatch.setenv("YOLO_CB_REMOTE_URL", URL)
    with pytest.raises(ConfigError, match=r"secret is hidden in run\.json"):
        restore_callbacks(kept)
    monkeypatch.setenv("YOLO_CB_REMOTE_SECRET", "x")
    (monitor,) = restore_callbacks(kept)
    assert (monitor.url, monitor.secret) == (None, None)
    kept = json.loads(json.dumps(without_secrets(configuration({"RemoteMonitor": secretive}))))
    with pytest.raises(ConfigError, match=r"headers are hidden in run\.json"):
        restore_callbacks(kept)


def test_the_text_of_an_error_is_sent_without_secrets(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "abcd1234efgh")
    with Receiver() as server:
        monitor = RemoteMonitor(server.url, {"X-Own": "h3ader"}, secret="s1gning")
        text = f"abcd1234efgh h3ader s1gning https://u:p@host/x?y=1 {'x' * 5000}"
        run_of(SessionStub(monitor), error=RuntimeError(text))
        sent = messages(server)[-1]["error"]["message"]
    assert sent.startswith("*** *** *** https://***@host/x?*** xxx")
    assert len(sent) == 2000


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (
            {"url": None},
            ValueError,
            "RemoteMonitor needs a url, or the environment variable YOLO_CB_REMOTE_URL",
        ),
        ({"url": 5}, TypeError, "url must be a URL"),
        ({"url": "http://example.org"}, ValueError, "use https, or pass allow_http=True"),
        ({"secret": ""}, TypeError, "secret must be a string"),
        ({"secret": 5}, TypeError, "secret must be a string"),
        ({"secret": "whsec_?"}, ValueError, "not base64"),
        ({"headers": "A: b"}, TypeError, "headers must be a dict"),
        ({"metrics": "fitness"}, TypeError, "metrics='fitness' must be a list"),
        ({"timeout": 0}, ValueError, "timeout=0 must be"),
        ({"queue_size": 0}, ValueError, "queue_size=0 must be >= 1"),
        ({"allow_http": 1}, TypeError, "allow_http=1 must be True or False"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, sentence, monkeypatch):
    monkeypatch.delenv("YOLO_CB_REMOTE_URL", raising=False)
    with pytest.raises(error, match=sentence):
        RemoteMonitor(**{"url": "https://example.org", **arguments})


def test_a_wrong_url_in_the_environment_is_named_and_not_told(monkeypatch):
    monkeypatch.setenv("YOLO_CB_REMOTE_URL", "http://m3:pa55word@example.org/x")
    with pytest.raises(
        ValueError, match=r"YOLO_CB_REMOTE_URL: http://example\.org would send everything in clear"
    ) as error:
        RemoteMonitor()
    assert shows_none(str(error.value))
