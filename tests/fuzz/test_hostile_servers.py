"""Servers that drip, break off, reset, flood or redirect: the epochs and the end take no longer for them.

Servers that merely fail or are slow are in tests/callbacks/test_remote_monitor.py, tests/callbacks/test_notify.py,
tests/e2e/test_mlflow.py and tests/e2e/test_platform.py.
"""

import contextlib
import gzip
import socket
import struct
import threading
import time

import pytest

from tests.callbacks.session_stub import SessionStub
from tests.receiver import Receiver
from yolo_callbacks import Notify, RemoteMonitor
from yolo_callbacks.reporting.outbox import HURRY

BOMB = gzip.compress(bytes(30_000_000), 9)
OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "drip": [b"HTTP/1.1 200 OK\r\nX-A: "] + [b"a"] * 10_000,
    "half": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"],
    "nothing": [],
    "reset": None,
    "no HTTP": [b"\x16\x03\x01\xff\x00{]"],
    "headers without end": [b"HTTP/1.1 200 OK\r\n"] + [b"X-A: " + b"a" * 60_000 + b"\r\n"] * 1_000,
    "wrong code": [b"HTTP/1.1 99999 OK\r\n\r\n"],
    "gzip bomb": [OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB],
    "503 for ever": [b"HTTP/1.1 503 No\r\nRetry-After: 999999\r\nContent-Length: 0\r\n\r\n"],
}


class Hostile:
    """A server that answers any connection with the same bytes."""

    def __init__(self, answer):
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            if self.answer is None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            for part in self.answer:
                connection.sendall(part)
                if len(part) == 1:
                    time.sleep(0.05)

    def close(self):
        self.listener.close()


@pytest.fixture
def hostile():
    servers = {name: Hostile(answer) for name, answer in ANSWERS.items()}
    yield servers
    for server in servers.values():
        server.close()


def test_no_server_holds_up_an_epoch_or_the_end(hostile, tmp_path):
    reporters = []
    for server in hostile.values():
        reporters.append(RemoteMonitor(f"http://127.0.0.1:{server.port}/in", secret="s3cret", timeout=1))
        reporters.append(Notify(f"json://127.0.0.1:{server.port}/t0ken", min_interval_minutes=0, with_picture=False))
    run = SessionStub(*reporters, folder=tmp_path / "run")
    run.begin()
    began = time.monotonic()
    for epoch in range(5):
        run.epoch(0.1 * (epoch + 1))
    epochs = time.monotonic() - began
    run.end(KeyboardInterrupt())
    everything = time.monotonic() - began
    assert epochs < 8  # waiting would take a second and more for each of 18 reporters and 5 epochs
    assert everything < epochs + HURRY * len(reporters)  # each documents its own wait at the end


@pytest.mark.parametrize("code", [302, 307])
def test_no_secret_follows_a_redirect_to_another_server(code, tmp_path):
    with Receiver() as other, Receiver() as server:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        server.always = (code, {"Location": f"{elsewhere}/stolen"})
        headers = {"Authorization": "Bearer t0ken", "X-Key": "k3y"}
        run = SessionStub(
            RemoteMonitor(f"http://me:pw@127.0.0.1:{server.port}/in", headers=headers, secret="s3cret"),
            Notify(f"json://me:pw@127.0.0.1:{server.port}/p4th?+X-Key=k3y", with_picture=False),
            folder=tmp_path / "run",
        )
        run.begin()
        run.epoch(0.5)
        run.end(KeyboardInterrupt())
        assert len(server.wait(2)) >= 2
        got = [str([item.path, item.headers, item.body]) for item in other.requests]
    assert not [text for text in got if any(secret in text for secret in ("t0ken", "k3y", "s3cret", "p4th", "bWU6cHc"))]


def test_a_redirect_to_itself_ends(tmp_path):
    with Receiver() as server:
        server.always = (307, {"Location": f"{server.url}/again"})
        run = SessionStub(
            RemoteMonitor(f"{server.url}/in"), Notify(f"json://127.0.0.1:{server.port}"), folder=tmp_path / "run"
        )
        run.begin()
        run.epoch(0.5)
        began = time.monotonic()
        run.end(KeyboardInterrupt())
        assert time.monotonic() - began < HURRY + 5
        assert len(server.requests) < 200
