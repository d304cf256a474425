"""The command line in processes of its own."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests import programs
from tests.helpers import TINY_MODEL

SMALL = ["--imgsz", "64", "batch=4", "nbs=4", "--plots=False", "device=cpu", f"model={TINY_MODEL}"]


def environment(folder):
    nowhere = "http://127.0.0.1:9"
    if not (folder / "config").exists():
        settle(folder)
    return {
        **programs.environment(),
        "YOLO_CONFIG_DIR": str(folder / "config"),
        "COLUMNS": "160",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
    }


def settle(folder):
    """Give Ultralytics the settings of a new user, but without its own MLflow logging, which takes many seconds."""
    (file,) = Path(os.environ["YOLO_CONFIG_DIR"]).rglob("settings.json")
    places = {name: str(folder / name.removesuffix("_dir")) for name in ("datasets_dir", "weights_dir", "runs_dir")}
    settings = {**json.loads(file.read_text()), **places, "mlflow": False}
    mine = folder / "config" / file.relative_to(os.environ["YOLO_CONFIG_DIR"])
    mine.parent.mkdir(parents=True)
    mine.write_text(json.dumps(settings))


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def run_json(folder, name="train"):
    return json.loads((folder / "runs" / "detect" / name / "callbacks" / "run.json").read_text())


class Training:
    """A training in the background, to be interrupted."""

    def __init__(self, folder, shapes, *words, epochs=500):
        self.folder = folder
        words = ["train", "--data", str(shapes), "--epochs", str(epochs), *SMALL, *words]
        self.process = programs.start(
            ["-m", "yolo_callbacks", *words],
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for_epochs(self, number):
        journal = self.folder / "runs" / "detect" / "train" / "callbacks" / "journal.jsonl"
        deadline = time.monotonic() + 120
        while not journal.exists() or len(journal.read_text().splitlines()) <= number:
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)  # as a terminal does: the whole group gets it
