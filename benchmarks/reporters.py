"""What each reporter costs the training thread, with live servers and with dead ones.

    python -m benchmarks.reporters [--epochs 12] [--rounds 1]

Trains on the built-in shapes from scratch, on the CPU, with all reporters together, each training in its own process.
Measures the reporters' steps and events on the training thread in wall time, so other processes count. The first epoch,
which opens files and starts threads, is excluded. TensorBoard writes the losses of each batch, which it does not do by
default; PlotLogger draws in the first epoch, at the end, and every 30 s in between. hooks.py measures what
GradientMonitor and ActivationMonitor do within batches. The servers are on the loopback: `mlflow server` with SQLite,
and one that accepts whatever RemoteMonitor, Notify and Ultralytics' Platform integration send. A dead server is a port
that nobody listens on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUDGET = 10.0
"""Milliseconds per epoch that all of them may take together, without histograms."""

ALL = "all together"
ONCE = ("setup", "close", "deliver")
EPOCH_STEPS = ("measure", "act")
STARTS = 120  # seconds that a server has to start


class Sink(BaseHTTPRequestHandler):
    """Accepts whatever it is sent."""

    taken: Counter[str] = Counter()

    def do_POST(self) -> None:
        """Answer as the Platform would; the others only read the status."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.taken[{"/": "RemoteMonitor", "/token/": "Notify", "/token": "Notify"}.get(self.path, "Platform")] += 1
        name = f"http://127.0.0.1:{self.server.server_port}"
        body = json.dumps(
            {"modelId": "m", "runId": 1, "modelUrl": f"{name}/m", "cancelled": False, "uploadUrl": f"{name}/put"}
        ).encode()
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_PUT = do_POST

    def log_message(self, *args) -> None:
        """Log nothing."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def servers(folder: Path):
    """Start the servers and yield their addresses: the sink's, and MLflow's, None if it does not start."""
    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    sink.daemon_threads = True
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder / 'store.db'}"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        mlflow = f"http://127.0.0.1:{port}"
        yield f"127.0.0.1:{sink.server_port}", mlflow if _comes_up(mlflow, process) else None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        sink.shutdown()


def _comes_up(address: str, process: subprocess.Popen) -> bool:
    deadline = time.monotonic() + STARTS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1) as answer:
            return answer.status == 200
        time.sleep(0.2)
    return False


class Stopwatch:
    """Adds up the time of callbacks on the training thread: by epoch, by batch, and once per run."""

    def __init__(self) -> None:
        self.epoch = 0
        self.seconds: dict[str, dict[str, dict[int, float]]] = {}
        self.once: dict[str, dict[str, float]] = {}

    def wrap(self, callback) -> None:
        """Time each step and event that a callback overrides."""
        from yolo_callbacks import Callback
        from yolo_callbacks.core.events import TRAIN_EVENTS

        name = type(callback).__name__
        self.seconds[name] = {"epoch": {}, "batch": {}}
        self.once[name] = dict.fromkeys(ONCE, 0.0)
        for step in (*EPOCH_STEPS, *ONCE, *TRAIN_EVENTS):
            if getattr(type(callback), step) is not getattr(Callback, step):
                setattr(callback, step, self._timed(name, step, getattr(callback, step)))

    def _timed(self, name, step, method):
        kind = "batch" if "batch" in step else "epoch"

        def timed(*args):
            start = time.perf_counter()
            try:
                return method(*args)
            finally:
                took = time.perf_counter() - start
                if step in ONCE:
                    self.once[name][step] += took
                else:
                    spent = self.seconds[name][kind]
                    spent[self.epoch] = spent.get(self.epoch, 0.0) + took

        return timed


def reporters(address: str, mlflow: str, histogram_freq: int) -> list:
    """Return all reporters."""
    import yolo_callbacks as ycb

    return [
        ycb.PerClassMetrics(),
        ycb.GradientMonitor(verbose=0),
        ycb.ActivationMonitor(verbose=0),
        ycb.CSVLogger(),
        ycb.PlotLogger(),
        ycb.TensorBoard(histogram_freq=histogram_freq, update_freq="batch"),
        ycb.MLflow("benchmark", tracking_uri=mlflow, timeout=10, log_artifacts=False),
        ycb.RemoteMonitor(f"http://{address}/"),
        ycb.Notify(f"json://{address}/token", min_interval_minutes=0),
        ycb.PlatformLogger(),
    ]


def train(options) -> None:
    """Train once, and write the measurements as JSON."""
    from ultralytics import YOLO

    import yolo_callbacks as ycb
    from benchmarks.surroundings import SMALL
    from yolo_callbacks.datasets import SHAPES

    watch, batches = Stopwatch(), []
    model = YOLO("yolo26n.yaml", verbose=False)
    callbacks = reporters(options.address, options.mlflow, options.histograms)
    for callback in callbacks:
        watch.wrap(callback)

    def begin(trainer) -> None:
        watch.epoch = trainer.epoch + 1
        batches.append(len(trainer.train_loader))

    model.add_callback("on_train_epoch_start", begin)
    ycb.attach(model, callbacks)
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            **SMALL,
            data=str(SHAPES["detect"]),
            epochs=options.epochs,
            project=str(Path(folder) / "benchmark"),
            name="run",
        )
    Path(options.out).write_text(json.dumps({"epochs": watch.seconds, "once": watch.once, "batches": batches[0]}))


def measure(folder: Path, address: str, mlflow: str, options, histograms: int = 0) -> dict:
    """Train in a separate process and return the measurements."""
    from benchmarks.surroundings import private

    out = folder / "measured.json"
    environment = {
        **private(folder),
        "ULTRALYTICS_PLATFORM_URL": f"http://{address}",
        "ULTRALYTICS_API_KEY": "ul_" + 40 * "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    words = [sys.executable, __file__, "--epochs", str(options.epochs), "--histograms", str(histograms)]
    words += ["--address", address, "--mlflow", mlflow, "--out", str(out)]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a training failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(out.read_text())


def milliseconds(runs: list[dict], name: str, kind: str) -> list[float]:
    """Return the time of a callback, or of all, in each epoch but the first of each training."""
    found = []
    for run in runs:
        names = list(run["epochs"]) if name == ALL else [name]
        last = max(int(epoch) for parts in run["epochs"].values() for epoch in parts["epoch"])
        for epoch in range(2, last + 1):
            found.append(1e3 * sum(run["epochs"][item][kind].get(str(epoch), 0.0) for item in names))
    return found


def table(runs: dict[str, list[dict]]) -> None:
    """Print the time of each callback, with live and with dead servers."""
    print(f"{'':<18}{'ms per epoch':>26}{'':>8}{'ratio of':>10}{'us per batch':>16}{'once: setup, the end (ms)':>32}")
    print(
        f"{'':<18}{'live':>8}{'worst':>8}{'dead':>10}{'worst':>8}{'medians':>10}{'live':>9}{'dead':>7}{'live':>18}{'dead':>14}"
    )
    for name in (*runs["live"][0]["epochs"], ALL):
        line, medians = f"{name:<18}", {}
        batch, once = {}, {}
        for how in ("live", "dead"):
            taken = milliseconds(runs[how], name, "epoch")
            medians[how] = statistics.median(taken)
            line += f"{medians[how]:>8.2f}{max(taken):>8.2f}" + ("  " if how == "live" else "")
            batches = runs[how][0]["batches"]
            batch[how] = 1e3 * statistics.median(milliseconds(runs[how], name, "batch")) / batches
            parts = [value for key, value in runs[how][0]["once"].items() if name in (key, ALL)]
            setup = 1e3 * sum(part["setup"] for part in parts)
            end = 1e3 * sum(part["close"] + part["deliver"] for part in parts)
            once[how] = f"{setup:.0f}, {end:.0f}"
        ratio = medians["dead"] / medians["live"] if medians["live"] else float("nan")
        print(f"{line}{ratio:>10.2f}{batch['live']:>9.1f}{batch['dead']:>7.1f}{once['live']:>18}{once['dead']:>14}")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    for inner in ("--address", "--mlflow", "--out"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    parser.add_argument("--histograms", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out:
        train(options)
        return
    runs: dict[str, list[dict]] = {"live": [], "dead": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with servers(folder) as (address, mlflow):
            store = mlflow or f"sqlite:///{folder / 'local.db'}"
            if mlflow is None:
                print("mlflow server did not start: MLflow writes to a local SQLite file instead")
            for _ in range(options.rounds):
                runs["live"].append(measure(folder, address, store, options))
                dead = f"127.0.0.1:{free_port()}"
                runs["dead"].append(measure(folder, dead, f"http://{dead}", options))
            histograms = [measure(folder, address, store, options, histograms=1)]
    table(runs)
    print(f"the live server accepted: {', '.join(f'{n} of {who}' for who, n in sorted(Sink.taken.items()))}")
    worst = max(statistics.median(milliseconds(run, ALL, "epoch")) for run in runs.values())
    print(f"{ALL}, median: {worst:.2f} ms per epoch, {'within' if worst <= BUDGET else 'MORE THAN'} {BUDGET:g} ms")
    taken = milliseconds(histograms, "TensorBoard", "epoch")
    print(
        f"TensorBoard(histogram_freq=1): {statistics.median(taken):.2f} ms per epoch (median), {max(taken):.2f} (worst)"
    )
    print("benchmarks.hooks measures what GradientMonitor and ActivationMonitor do within a batch")


if __name__ == "__main__":
    main()
