"""The Ultralytics Platform on loopback, and a process of its own to train in: inside pytest the integration is off."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from tests import programs

KEY = "ul_" + "5ec2e7" * 7
SIGNATURE = "51gnatu2e"


class Platform(ThreadingHTTPServer):
    """Takes what Ultralytics sends to its Platform.

    It answers as the real one, but for runs that `answers` names: a value for (name of the run, event) is an HTTP
    status, the answer itself (an object, or bytes), or a function of the server and the request that returns one of
    these. The events are those of Ultralytics and `upload` (asking for the URL) and `put` (the file).
    """

    daemon_threads = True

    def __init__(self, answers=None):
        super().__init__(("127.0.0.1", 0), PlatformRequest)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers = answers or {}
        self.received = []
        self.requests = []
        self.uploads = {}
        self.keys = set()
        self.flags = {}
        self.in_time = []
        Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def flag(self, name):
        """Return what a run and an answer can wait for."""
        return self.flags.setdefault(name, Event())

    def of(self, name, event):
        return [data for whose, what, data in self.received if (whose, what) == (name, event)]

    def asked(self, name, event):
        return [request for whose, what, request in self.requests if (whose, what) == (name, event)]

    def answer(self, request):
        event = request.get("event", "upload")
        name = request.get("modelId") or request.get("name")
        if event != "upload":
            self.received.append((name, event, request["data"]))
        self.requests.append((name, event, request))
        special = self.answers.get((name, event))
        reply = special(self, request) if callable(special) else special
        return self.usual(name, event) if reply is None else reply

    def usual(self, name, event):
        if event == "upload":
            url = f"{self.url}/{name}?signature={SIGNATURE}"
            return {"uploadUrl": url, "gcsPath": f"store/{name}", "uploadPath": name}
        if event == "training_started":
            return {"modelId": name, "runId": 1, "modelUrl": f"{self.url}/view/{name}", "cancelled": False}
        return {"cancelled": False}


class PlatformRequest(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.keys.add(self.headers["Authorization"])
        self.reply(self.server.answer(json.loads(self.body())))

    def do_PUT(self):
        name, content = self.path.strip("/").partition("?")[0], self.body()
        special = self.server.answers.get((name, "put"))
        reply = special(self.server, name) if callable(special) else special
        self.server.uploads[name] = content
        self.reply({} if reply is None else reply)

    def do_GET(self):
        """Let a program set a flag."""
        self.server.flag(self.path.removeprefix("/flag/")).set()
        self.reply({})

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def reply(self, answer):
        status, answer = (answer, {"error": f"no, {KEY}"}) if isinstance(answer, int) else (200, answer)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:  # it has taken so long that nobody waits any more
            pass

    def log_message(self, *_):
        pass


def train_in_process(program, arguments, folder, platform, **environment):
    """Run a program that trains, with the Platform on; return the finished process."""
    (folder / "config").mkdir(exist_ok=True)
    return programs.run(
        ["-c", program, *arguments],
        cwd=folder,
        env={
            **programs.environment(),
            "YOLO_CONFIG_DIR": str(folder / "config"),
            "ULTRALYTICS_PLATFORM_URL": platform.url,
            "ULTRALYTICS_API_KEY": KEY,
            "DO_NOT_TRACK": "true",  # no threads of others that draw random numbers meanwhile
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **environment,
        },
    )
