"""A real HTTP server on the loopback, which answers as a test tells it to and keeps what it got."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT = 30  # seconds that a test waits for what must come


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Receiver:
    """Answers 200, or what `answers` says: (status, headers), or a function that is called in the server's thread."""

    def __init__(self, *answers, port=0):
        self.requests: list[Request] = []
        self.answers = list(answers)
        self.always = (200, {})
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with receiver._arrived:
                    answer = receiver.answers.pop(0) if receiver.answers else receiver.always
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    receiver.requests.append(Request(self.path, headers, body))
                    receiver._arrived.notify_all()
                if callable(answer):
                    answer = answer()
                with contextlib.suppress(OSError):  # the client may not have waited
                    self.send_response(answer[0])
                    for name, value in answer[1].items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def wait(self, number, timeout=TIMEOUT):
        """Wait until so many requests have come, and return them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= number, timeout), len(self.requests)
            return list(self.requests)

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
