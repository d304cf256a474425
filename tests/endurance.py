"""Hundreds of short trainings in one process, with everything attached: what grows from one to the next?

`python -m tests.endurance FOLDER --trainings 300`; with `--plain`, nothing is attached. After each training, memory,
file descriptors, threads, objects and caches are counted. A line is fitted to each count, without the first quarter of
the trainings, and the 95 % interval of its slope must reach down to the bound.
"""

import argparse
import atexit
import ctypes
import gc
import json
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from scipy import stats
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL, slower
from tests.receiver import Receiver
from yolo_callbacks.datasets import build_shapes
from yolo_callbacks.exports import process as export_process
from yolo_callbacks.pictures import drawing

BLOCKS = 15  # neighbouring trainings depend on each other, their means much less
BOUNDS = {"memory (kB)": 20.0, "objects": 2.0, "files": 0.0, "threads": 0.0, "cached": 0.0, "at exit": 0.0}
"""How much each may grow per training."""


def everything(receiver):
    """Return every public callback, all of them at work."""
    return [
        ycb.ActivationMonitor(every_n_batches=1),
        ycb.BackupAndRestore(),
        ycb.CSVLogger(),
        ycb.EarlyStopping(restore_best_weights=True),
        ycb.FreezeBackbone(1),
        ycb.GradientMonitor(every_n_steps=1),
        ycb.LearningRateScheduler(slower),
        ycb.MLflow("endurance", tracking_uri=f"sqlite:///{receiver.folder / 'mlflow.db'}", log_artifacts=False),
        ycb.ModelCheckpoint("kept"),
        ycb.Notify(f"json://127.0.0.1:{receiver.port}", min_interval_minutes=0),
        ycb.PerClassMetrics(),
        ycb.PlatformLogger(),
        ycb.PlotLogger(),
        ycb.PreemptionHandler(),
        ycb.ReduceLROnPlateau(),
        ycb.RemoteMonitor(receiver.url),
        ycb.TensorBoard(write_graph=False, histogram_freq=1, predictions_freq=1),
    ]


def cached():
    """Return the number of entries in whatever modules of this package keep for the whole process."""
    found = 0
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "yolo_callbacks":
            continue
        holders = [
            vars(item)
            for item in vars(module).values()
            if getattr(item, "__module__", "") == name and isinstance(item, type)
        ]
        kept = {key: value for holder in (vars(module), *holders) for key, value in holder.items()}
        for item in (value for key, value in kept.items() if not key.startswith("__")):
            if hasattr(item, "cache_info"):
                found += item.cache_info().currsize
            elif isinstance(item, (dict, list, set)) or type(item).__module__ in (
                "weakref",
                "_weakrefset",
                "collections",
            ):
                with suppress(TypeError):
                    found += len(item)
    return found


def counts():
    """Return what this process holds."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return {
        "memory (kB)": process.memory_full_info().uss / 1024,
        "objects": len(gc.get_objects()),
        "files": process.num_fds(),
        "threads": threading.active_count(),
        "cached": cached(),
        "at exit": atexit._ncallbacks(),
    }


def trainings(folder, data, number, attach, epochs=2):
    """Yield the counts after each of so many trainings.

    Args:
        folder: Where they may write; each run is removed.
        data: The data set.
        number: How many.
        attach: Returns the callbacks of a training; None for none at all.
        epochs: Number of epochs of each.
    """
    gc.collect()
    gc.freeze()  # what is there by now is not counted
    for _ in range(number):
        model = YOLO(TINY_MODEL, verbose=False)
        if attach is not None:
            ycb.attach(model, attach())
        model.train(**TINY, data=str(data), epochs=epochs, project=str(folder), name="run")
        del model
        shutil.rmtree(folder / "run")
        yield counts()


def slope(values):
    """Return the 95 % interval of the slope of a line through these values."""
    size = max(1, len(values) // BLOCKS)
    blocks = [values[i : i + size] for i in range(0, len(values) - size + 1, size)]
    x = size * (np.arange(len(blocks)) - (len(blocks) - 1) / 2)
    y = np.mean(blocks, axis=1)
    rate = x @ y / (x @ x)
    rest = y - y.mean() - rate * x
    margin = stats.t.ppf(0.975, len(x) - 2) * np.sqrt(rest @ rest / (len(x) - 2) / (x @ x))
    return float(rate - margin), float(rate + margin)


def growing(found, bounds=BOUNDS):
    """Return the slopes of the counts after the first quarter, and a sentence for each one that is above its bound."""
    found = found[len(found) // 4 :]
    slopes = {name: slope([item[name] for item in found]) for name in bounds}
    wrong = [
        f"{name} grow by {low:.3g} to {high:.3g} per training, more than {bounds[name]:g}"
        for name, (low, high) in slopes.items()
        if low > bounds[name]
    ]
    return slopes, wrong


class Sink(Receiver):
    """Takes what is sent, and forgets it."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def attached(self):
        self.requests.clear()
        return everything(self)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--trainings", type=int, default=300)
    arguments.add_argument("--plain", action="store_true")
    given = arguments.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    begun, found = time.monotonic(), []
    with Sink(given.folder) as sink, pytest.MonkeyPatch.context() as patch:
        if programs.FORKS:
            for module in (drawing, export_process):
                patch.setattr(module, "subprocess", programs.Subprocess)
        data = build_shapes(given.folder / "shapes", "detect", train=4, val=4, size=64) / "data.yaml"
        for item in trainings(given.folder, data, given.trainings, None if given.plain else sink.attached):
            found.append(item)
            with open(given.folder / "counts.jsonl", "a") as log:
                log.write(json.dumps(item) + "\n")
    slopes, wrong = growing(found)
    print(f"{given.trainings} trainings in {time.monotonic() - begun:.0f} s; growth per training, 95 % interval:")
    for name, (low, high) in slopes.items():
        print(
            f"  {name:12} {low:+.3f} to {high:+.3f}, from {found[len(found) // 4][name]:.0f} to {found[-1][name]:.0f}"
        )
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
