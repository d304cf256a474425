"""Starts a training on several ranks as a user does, in a process of its own, and finds all it has started."""

import contextlib
import json
import os
import pickle
import subprocess
import time
import uuid
from pathlib import Path

import psutil

from tests import programs
from tests.distributed.cpu_trainer import CPUTrainer
from tests.helpers import TINY, TINY_MODEL

ROOT = Path(__file__).parents[2]
ARGUMENTS = {**TINY, "batch": 2, "nbs": 2, "epochs": 9, "optimizer": "AdamW", "warmup_epochs": 1}
"""One picture a rank, so that an epoch has two batches; a warm-up, as it sets the learning rate by itself."""

_MARK = "YOLO_CALLBACKS_TEST_LAUNCH"
_TIMEOUT = 240


class Launch:
    def __init__(
        self,
        folder,
        callbacks,
        trainings,
        *,
        functions=(),
        model=TINY_MODEL,
        trainer=CPUTrainer,
        resume=False,
        pass_on=False,
    ):
        self.folder = folder
        self._id = uuid.uuid4().hex
        task = {
            "callbacks": callbacks,
            "functions": functions,
            "trainings": [{"resume": True}] if resume else trainings,
            "model": str(model),
            "trainer": trainer,
            "pass_on": pass_on,
        }
        (folder / "task.pkl").write_bytes(pickle.dumps(task))
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with open(folder / "output.txt", "wb") as output:  # a pipe would stay open as long as any worker lives
            self._parent = programs.start(
                ["-m", "tests.distributed.parent", "task.pkl", "answer.pkl"],
                cwd=folder,
                env={**programs.environment(), "PYTHONPATH": path, _MARK: self._id, programs.SERVER: programs.server()},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self):
        """Wait for the end, and return itself."""
        try:
            self._parent.wait(_TIMEOUT)
        finally:
            self.ended = time.time()
            self.left_behind = self._outlive(seconds=5)
            self.kill()
        return self

    def wait_for(self, *files):
        """Wait until the processes have made these files."""
        deadline = time.monotonic() + _TIMEOUT
        while not all((self.folder / file).exists() for file in files):
            assert self._parent.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def kill(self):
        """Kill the parent and all that it has started with SIGKILL."""
        self._parent.kill()
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=1)
        self._parent.wait(_TIMEOUT)

    def processes(self):
        """Return all processes of this launch: torchrun gives its workers sessions of their own."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def launcher_and_workers(self):
        """Return torchrun's process and those of the ranks."""
        known = [(process, *programs.command_and_environment(process)) for process in self.processes()]
        workers = [process for process, _, environment in known if "LOCAL_RANK" in environment]
        return next(process for process, command, _ in known if "tests.distributed.torchrun" in command), workers

    def terminate(self):
        """Send SIGTERM to the process that called `model.train()`, and to it alone."""
        self._parent.terminate()

    @property
    def returncode(self):
        return self._parent.returncode

    @property
    def output(self):
        return (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")

    @property
    def answers(self):
        """What the parent's `Attachment` said after each training, and at last without the model."""
        return pickle.loads((self.folder / "answer.pkl").read_bytes())

    def witness(self, rank, name="run"):
        """Return what a rank saw."""
        file = self.folder / f"{name}-rank-{rank}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def _outlive(self, seconds):
        deadline = time.monotonic() + seconds
        while (processes := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return processes

    def _is_ours(self, process):
        with contextlib.suppress(psutil.Error):
            running = process.status() != psutil.STATUS_ZOMBIE
            return running and programs.command_and_environment(process)[1].get(_MARK) == self._id
        return False
