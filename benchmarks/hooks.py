"""What GradientMonitor and ActivationMonitor cost per batch: one training, in which they are on in every other epoch.

    python -m benchmarks.hooks [--epochs 40] [--imgsz 96] [--batch 16] [--device cpu]

Trains on the built-in shapes from scratch. Epochs with and without a monitor alternate, so that both see the same
machine; the ratio is of the medians of all batches. The time in our own code is measured directly. All times are CPU
time, so that other processes count little; on a GPU, the time of a batch is the time until the GPU has completed it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import yolo_callbacks as ycb
from benchmarks.surroundings import private
from yolo_callbacks.datasets import SHAPES
from yolo_callbacks.trainer.model.activation_watch import ActivationWatch
from yolo_callbacks.trainer.model.gradient_watch import OptimizerSteps

WARM_UP = 2


class Stopwatch:
    """Adds up the time that a batch spends in our code: thread time, which a busy machine does not change."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.inside = 0

    def around(self, function):
        """Return the function, timed."""

        def timed(*args, **kwargs):
            start, self.inside = time.thread_time(), self.inside + 1
            try:
                return function(*args, **kwargs)
            finally:
                self.inside -= 1
                if not self.inside:
                    self.spent += time.thread_time() - start

        return timed

    def without(self, function):
        """Return the function, not timed."""

        def halted(*args, **kwargs):
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent -= time.thread_time() - start

        return halted


def stopwatch_microseconds() -> float:
    """Return what the stopwatch itself adds per batch."""
    watch, spent = Stopwatch(), []
    nothing = watch.around(watch.without(list))
    for _ in range(1000):
        watch.spent = 0.0
        nothing()
        spent.append(1e6 * watch.spent)
    return statistics.median(spent)


def batch_clock(device) -> float:
    """Return a time in seconds for measuring batches."""
    if device.type == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize(device)
    return time.perf_counter()


class Alternating(ycb.Callback):
    """Switches a monitor on in every other epoch, and records how long each batch takes."""

    def __init__(self, monitor, watch) -> None:
        self.monitor, self.watch = monitor, watch
        self.looks = False
        self.batches = {True: [], False: []}
        self.own = {True: [], False: []}
        self.fetch = []

    def setup(self, session) -> None:
        self.session = session

    def on_train_epoch_start(self, trainer) -> None:
        super().on_train_epoch_start(trainer)
        self.looks, self.number = not self.looks, 0
        if self.looks:
            self.monitor.setup(self.session)

    def on_train_batch_start(self, trainer) -> None:
        self.watch.spent, self.number = 0.0, self.number + 1
        self.start = batch_clock(trainer.device)

    def on_train_batch_end(self, trainer) -> None:
        took = batch_clock(trainer.device) - self.start
        if trainer.epoch >= WARM_UP:
            self.batches[self.looks].append(took)
            every = getattr(self.monitor, "every_n_steps", None) or self.monitor.every_n_batches
            if self.looks:
                self.own[(self.number - 1) % every == 0].append(self.watch.spent)

    def on_train_epoch_end(self, trainer) -> None:
        if self.looks:
            start = time.thread_time()
            self.monitor.measure(self.session)
            if trainer.epoch >= WARM_UP:
                self.fetch.append(time.thread_time() - start)
            self.monitor.close(self.session, None)


def train(monitor, options) -> Alternating:
    """Train once with a monitor that is on in every other epoch."""
    from ultralytics import YOLO

    watch = Stopwatch()
    step, begin, hook = (
        OptimizerSteps._step,
        ActivationWatch._begin_batch,
        ActivationWatch._hook,
    )

    def timed_step(self):
        own, self._own = self._own, watch.without(self._own)
        try:
            return step(self)
        finally:
            self._own = own

    OptimizerSteps._step = watch.around(timed_step)
    ActivationWatch._begin_batch = watch.around(begin)
    ActivationWatch._hook = lambda self, name: watch.around(hook(self, name))
    try:
        alternating = Alternating(monitor, watch)
        model = YOLO(options.model, verbose=False)
        ycb.attach(model, [alternating])
        with tempfile.TemporaryDirectory() as folder:
            model.train(
                data=str(SHAPES["detect"]),
                epochs=options.epochs,
                imgsz=options.imgsz,
                batch=options.batch,
                nbs=options.batch,
                device=options.device,
                plots=False,
                verbose=False,
                val=False,
                optimizer="AdamW",
                project=folder,
                name="run",
            )
    finally:
        OptimizerSteps._step = step
        ActivationWatch._begin_batch, ActivationWatch._hook = begin, hook
    return alternating


def report(monitor, options) -> None:
    """Train with a monitor and print what it cost."""
    seen = train(monitor, options)
    medians = {looks: statistics.median(times) for looks, times in seen.batches.items()}
    extra = stopwatch_microseconds()
    sampled, other = (max(0.0, 1e6 * statistics.median(seen.own[kind] or [0.0]) - extra) for kind in (True, False))
    share = len(seen.own[True]) / (len(seen.own[True]) + len(seen.own[False]))
    mean = 1e6 * statistics.mean(seen.own[True] + seen.own[False]) - extra
    print(f"{monitor!r}")
    print(f"  batch, with / without    {1e3 * medians[True]:.1f} / {1e3 * medians[False]:.1f} ms (medians)", end=", ")
    print(
        f"ratio {medians[True] / medians[False]:.3f}, {len(seen.batches[True])} and {len(seen.batches[False])} batches"
    )
    print(f"  own code, sampled        {sampled:.0f} us per batch (median)")
    print(f"  own code, not sampled    {other:.1f} us per batch (median)")
    print(f"  own code, all            {mean:.0f} us per batch (mean, {share:.0%} sampled)", end=", ")
    print(f"{mean / 1e6 / medians[False]:.2%} of a batch")
    print(f"  at the end of an epoch   {1e3 * statistics.median(seen.fetch):.2f} ms")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", default="yolo26n.yaml")
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(private(Path(folder)))
        os.environ.pop("ULTRALYTICS_API_KEY", None)
        report(ycb.GradientMonitor(verbose=0), options)
        report(ycb.GradientMonitor(every_n_steps=1, verbose=0), options)
        report(ycb.ActivationMonitor(verbose=0), options)
        report(ycb.ActivationMonitor(every_n_batches=1, verbose=0), options)
    import torch
    import ultralytics

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ultralytics {ultralytics.__version__}")


if __name__ == "__main__":
    main()
