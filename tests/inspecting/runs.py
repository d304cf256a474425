"""Run directories in every state, written as the trainers write them."""

import json
import os
import socket
import subprocess
import sys
import time

from tests.replaying.logs import rise_and_fall, write_csv


def make_run(folder, epochs=5, *, planned=10, age=0.0, manifest=None, scores=None, **arguments):
    """Write a run: results.csv, args.yaml, and run.json if there is a manifest; return its directory."""
    write_csv(folder, scores or rise_and_fall(3, epochs), epochs=planned, **arguments)
    (folder / "weights").mkdir(exist_ok=True)
    if manifest is not None:
        (folder / "callbacks").mkdir(exist_ok=True)
        content = {"format": 1, "args": {"epochs": planned, **arguments}, **manifest}
        (folder / "callbacks" / "run.json").write_text(json.dumps(content))
    return make_old(folder, age)


def make_old(folder, seconds):
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)
    return folder


def here(pid=None):
    return {"status": "running", "pid": os.getpid() if pid is None else pid, "host": socket.gethostname()}


def pid_of_the_dead():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid
