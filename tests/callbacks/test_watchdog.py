"""What Watchdog is told, and what it passes on; tests/reporting/test_stall_watch.py has the thread behind it."""

import json

import pytest

from tests.callbacks.session_stub import SessionStub
from tests.receiver import Receiver
from yolo_callbacks import Callback, Notify, RemoteMonitor, Watchdog
from yolo_callbacks.session.participant import Alert

STALL = Alert("stall", "epoch 2 of 10, batch 3 of 8: no batch has ended for 75 s", 75.0)
OVER = Alert("went_on", "epoch 2 of 10, batch 4 of 8: went on after 340 s", 340.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stall_after": "quick"}, ValueError, "stall_after='quick' must be a multiple of at least 2"),
        ({"min_seconds": 0}, ValueError, "min_seconds=0 must be a finite number > 0"),
        ({"slow_seconds": -1}, ValueError, "slow_seconds=-1"),
        ({"heartbeat_seconds": "5"}, TypeError, "heartbeat_seconds='5' must be a number > 0"),
        ({"exit_code": 0}, ValueError, "exit_code=0 must be >= 1"),
        ({"exit_code": 256}, ValueError, "exit_code=256 must be <= 255"),
        ({"exit_code": 75, "stall_after": None}, ValueError, "exit_code=75 needs a stall_after"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Watchdog(**arguments)


def beat(session):
    return json.loads((session.run.callbacks_dir / "heartbeat.json").read_text())


def test_a_run_of_the_stand_in_leaves_a_last_heartbeat():
    session = SessionStub(Watchdog())
    session.begin()
    for _ in range(3):
        session.epoch(0.5)
    session.end()
    found = beat(session)
    assert (found["run"], found["status"], found["phase"], found["epochs"]) == (session.id, "finished", "ended", 10)


def test_alerts_reach_people_and_servers():
    with Receiver() as people, Receiver() as server:
        watchdog = Watchdog()
        session = SessionStub(
            watchdog,
            Notify(f"json://127.0.0.1:{people.port}/t0ken", title="{event}"),
            Notify(f"json://127.0.0.1:{people.port}/t0ken", ["stop"], title="{event}"),
            RemoteMonitor(server.url),
        )
        session.begin()
        session.epoch(0.5)
        for alert in (STALL, OVER):
            watchdog._tell(session, alert)
        session.end()
        told = [(m["title"], m["message"], m["type"]) for m in (request.json for request in people.requests)]
        sent = [request.json for request in server.requests]
    assert [item for item in told if item[0] in ("stall", "went on")] == [
        ("stall", STALL.message, "warning"),
        ("went on", OVER.message, "info"),
    ]
    assert [item["event"] for item in sent] == ["start", "epoch", "stall", "went_on", "stop"]
    assert [item["sequence"] for item in sent] == [1, 2, 3, 4, 5]
    stall = sent[2]
    assert (stall["epoch"], stall["planned_epochs"], stall["stalled_seconds"]) == (1, 10, 75.0)
    assert stall["message"] == STALL.message


def test_a_callback_that_cannot_pass_it_on_keeps_no_other_from_it(said):
    class Broken(Callback):
        def alert(self, session, alert):
            raise ConnectionError("away")

    heard = []

    class Hears(Callback):
        def alert(self, session, alert):
            heard.append(alert)

    watchdog = Watchdog()
    watchdog._tell(SessionStub(Broken(), watchdog, Hears()), STALL)
    assert heard == [STALL]
    assert said.warnings == [
        "Broken.alert failed; training continues: ConnectionError: away",
        f"Watchdog: {STALL.message}",
    ]
