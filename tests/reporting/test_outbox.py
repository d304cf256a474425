"""The outbox with real sockets, and where time is what matters with a sender of its own."""

import json
import threading
import time
from functools import partial

import pytest

from tests.helpers import wait_for
from tests.receiver import TIMEOUT, Receiver, free_port
from yolo_callbacks.reporting import outbox as module
from yolo_callbacks.reporting.outbox import NotDelivered, Outbox
from yolo_callbacks.reporting.webhook import Webhook


class Held:
    """An answer that a test lets go of when it wants."""

    def __init__(self):
        self.gate, self.reached = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        self.gate.wait(TIMEOUT)
        return 200, {}


def post(webhook, message, attempt):
    webhook.post(json.dumps({"n": message, "lost": attempt.lost}).encode(), f"msg-{message}", attempt.seconds)


def to(url, timeout=5.0, **options):
    webhook = Webhook(url, None, None, timeout, "test")
    return Outbox("Test", partial(post, webhook), **{"first_pause": 0.01, "longest_pause": 0.05, **options})


def numbers(requests):
    return [request.json["n"] for request in requests]


def close(outbox, grace=TIMEOUT):
    outbox.finish(grace)
    return outbox.join()


def test_messages_arrive_once_and_in_order(said):
    with Receiver() as server:
        outbox = to(server.url)
        for number in range(20):
            outbox.put(number, droppable=True)
        assert close(outbox)
        assert numbers(server.requests) == list(range(20))
    assert said.lines == [("INFO", "Test: delivered 20 of 20 messages")]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_what_may_be_taken_later_is_sent_again_to_the_byte(status, said):
    with Receiver((status, {}), (status, {})) as server:
        outbox = to(server.url)
        outbox.put(1)
        assert close(outbox)
        assert len(server.requests) == 3
        assert len({request.body for request in server.requests}) == 1
        assert {request.headers["webhook-id"] for request in server.requests} == {"msg-1"}
    assert said.lines == [
        ("WARNING", f"Test: the server answered {status}; it will be retried, training continues"),
        ("INFO", "Test: messages are delivered again"),
        ("INFO", "Test: delivered 1 of 1 message"),
    ]


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_what_will_never_be_taken_is_not_sent_again(status, said):
    with Receiver((status, {})) as server:
        outbox = to(server.url)
        outbox.put(1)
        outbox.put(2)
        assert not close(outbox)
        assert numbers(server.requests) == [1, 2]
        assert server.requests[1].json["lost"] == 1
    assert said.lines[0] == (
        "WARNING",
        f"Test: the server answered {status}; the message is dropped, training continues",
    )
    assert said.lines[-1] == ("WARNING", "Test: delivered 1 of 2 messages")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status, said):
    with Receiver() as other, Receiver((status, {"Location": f"{other.url}/stolen"})) as server:
        outbox = to(server.url)
        outbox.put(1)
        assert not close(outbox)
        assert numbers(server.requests) == [1]
        assert other.requests == []
    assert "redirects are not followed: use the final URL" in said.lines[0][1]


def test_a_message_that_a_server_never_takes_does_not_block_those_behind_it():
    def answer():
        return (500 if server.requests[-1].json["n"] == 1 else 200), {}

    with Receiver() as server:
        server.always = answer
        outbox = to(server.url)
        for number in (0, 1, 2):
            outbox.put(number)
        server.wait(12)
        assert not close(outbox)
        assert numbers(server.requests) == [0, *[1] * 10, 2]
        assert server.requests[-1].json["lost"] == 1


def test_an_answer_that_takes_too_long_is_not_waited_for(said):
    gate = threading.Event()

    def slow():
        gate.wait(TIMEOUT)
        return 200, {}

    with Receiver(slow) as server:
        outbox = to(server.url, timeout=0.1)
        outbox.put(1)
        assert close(outbox)
        assert numbers(server.requests) == [1, 1]
        gate.set()
    assert said.lines[0][1].startswith("Test: no answer within 0.1 s; it will be retried")


def test_a_server_that_comes_back_gets_what_is_left(said):
    port = free_port()
    outbox = to(f"http://127.0.0.1:{port}/a?token=s3cr3t-t0ken")
    for number in range(5):
        outbox.put(number, droppable=True)
    wait_for(lambda: said.lines)
    assert said.lines == [
        ("WARNING", "Test: the server cannot be reached (Connection refused); it will be retried, training continues")
    ]
    with Receiver(port=port) as server:
        server.wait(5)
        assert close(outbox)
        assert numbers(server.requests) == list(range(5))
    assert "token" not in str(said.lines)


def test_a_full_queue_drops_the_oldest_epochs_and_says_how_many(said):
    hold = Held()
    with Receiver(hold) as server:
        outbox = to(server.url, limit=5)
        outbox.put("start")
        assert hold.reached.wait(TIMEOUT)
        outbox.put("important")
        began = time.monotonic()
        for number in range(1000):
            outbox.put(number, droppable=True)
        assert time.monotonic() - began < 2
        outbox.put("stop")
        assert len(outbox._queue) == 6  # the one on its way, and five that wait: memory does not grow
        hold.gate.set()
        assert not close(outbox)
        assert numbers(server.requests[:2]) == ["start", "important"]
        assert set(numbers(server.requests[2:])) == {997, 998, 999, "stop"}
        assert [request.json["lost"] for request in server.requests] == [0, 997, 997, 997, 997, 997]
    assert said.lines == [
        ("WARNING", "Test: the queue is full (5 messages): the oldest epoch messages are dropped"),
        ("WARNING", "Test: delivered 6 of 1003 messages"),
    ]


def test_a_message_takes_the_place_of_a_waiting_one_of_its_key():
    hold = Held()
    with Receiver(hold) as server:
        outbox = to(server.url)
        outbox.put("best 0", key="best")
        assert hold.reached.wait(TIMEOUT)
        for number in range(1, 9):
            outbox.put(f"best {number}", key="best")
        hold.gate.set()
        assert close(outbox)
        assert numbers(server.requests) == ["best 0", "best 8"]


@pytest.mark.parametrize("short", [False, True])
def test_when_time_gets_short_what_may_not_be_dropped_goes_first(short, monkeypatch):
    if short:
        monkeypatch.setattr(module, "_IN_ORDER", 0.0)
    hold = Held()
    with Receiver(hold) as server:
        outbox = to(server.url)
        outbox.put(0, droppable=True)
        assert hold.reached.wait(TIMEOUT)
        for number in (1, 2, 3):
            outbox.put(number, droppable=True)
        outbox.put("stop")
        outbox.finish(TIMEOUT)
        hold.gate.set()
        assert outbox.join()
        assert numbers(server.requests) == ([0, "stop", 1, 2, 3] if short else [0, 1, 2, 3, "stop"])


# ------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("kind", ["hangs", "refuses", "is told to wait"])
def test_a_dead_server_does_not_hold_up_the_end(kind, said):
    gate = threading.Event()

    def hang():
        gate.wait(TIMEOUT)
        return 200, {}

    with Receiver() as server:
        server.always = {"hangs": hang, "is told to wait": (503, {"Retry-After": "3600"})}.get(kind, (500, {}))
        url = f"http://127.0.0.1:{free_port()}" if kind == "refuses" else server.url
        outbox = to(url, timeout=TIMEOUT)
        for number in range(50):
            outbox.put(number)
        if kind != "refuses":
            server.wait(1)
        start = time.monotonic()
        assert not close(outbox, grace=0.5)
        assert time.monotonic() - start < 0.5 + 2
        gate.set()
    assert said.lines[-1] == ("WARNING", "Test: delivered 0 of 50 messages")
    outbox.put("too late")
    assert outbox.accepted == 50


def test_a_server_that_is_gone_is_tried_three_times_at_the_end():
    tries = []

    def send(message, attempt):
        tries.append(message)
        raise NotDelivered("gone")

    outbox = Outbox("Test", send, first_pause=0.01, longest_pause=0.01)
    for number in range(5):
        outbox.put(number)
    wait_for(lambda: tries)
    outbox.finish(TIMEOUT)
    so_far, start = len(tries), time.monotonic()
    assert not outbox.join()
    assert time.monotonic() - start < 5
    assert 3 <= len(tries) - so_far <= 4  # one may have been on its way


def test_the_end_tries_again_at_once_what_waits_for_a_long_pause():
    with Receiver((500, {})) as server:
        outbox = to(server.url, first_pause=1000, longest_pause=1000)
        outbox.put(1)
        server.wait(1)
        start = time.monotonic()
        assert close(outbox)
        assert time.monotonic() - start < 10
        assert numbers(server.requests) == [1, 1]


def test_the_thread_ends_and_an_outbox_without_messages_has_none():
    before = set(threading.enumerate())
    assert close(to("http://127.0.0.1:1"))
    assert set(threading.enumerate()) == before
    with Receiver() as server:
        before = set(threading.enumerate())
        outbox = to(server.url)
        outbox.put(1)
        (thread,) = (item for item in set(threading.enumerate()) - before if item.name.startswith("yolo-callbacks"))
        assert thread.daemon
        assert close(outbox)
        assert not thread.is_alive()


# ------------------------------------------------------------------------------------------------- pauses


def pauses(monkeypatch, errors, **options):
    """Return the seconds that an outbox waits after each of these errors."""
    waited, now = [], [0.0]

    class Change(threading.Condition):
        def wait(self, timeout=None):
            waited.append(timeout)
            now[0] += timeout

    outbox = Outbox("Test", lambda *_: None, **options)
    outbox._change = Change()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module._RANDOM, "uniform", lambda low, high: high)
    letter = module._Queued("message", False, None)
    for error in errors:
        outbox._queue = [letter]
        outbox._failed(letter, error)
    return waited


def test_pauses_double_up_to_five_minutes(monkeypatch):
    waited = pauses(monkeypatch, [NotDelivered("down")] * 2000)
    assert waited[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waited[10:]) == {300}


def test_a_server_is_left_alone_as_long_as_it_asks_for_within_reason(monkeypatch):
    asked = [NotDelivered("busy", after=seconds) for seconds in (0.5, 7, 7, 7, 7, 1e9)]
    assert pauses(monkeypatch, asked) == [1, 7, 7, 8, 16, 3600]


def test_a_server_that_asks_for_a_second_gets_it():
    with Receiver((429, {"Retry-After": "1"})) as server:
        outbox = to(server.url)
        outbox.put(1)
        server.wait(1)
        start = time.monotonic()
        assert close(outbox)
        assert time.monotonic() - start > 0.9
        assert numbers(server.requests) == [1, 1]


def test_a_bug_in_a_sender_costs_its_message_only(said):
    def send(message, attempt):
        if message == 1:
            raise KeyError("s3cr3t")

    outbox = Outbox("Test", send)
    for number in range(3):
        outbox.put(number)
    assert not close(outbox)
    assert said.lines == [
        ("WARNING", "Test: KeyError; the message is dropped, training continues"),
        ("INFO", "Test: messages are delivered again"),
        ("WARNING", "Test: delivered 2 of 3 messages"),
    ]
