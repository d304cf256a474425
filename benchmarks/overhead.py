"""What attach(model) costs: trains with and without it in alternation, and drives 10,000 epochs without a trainer.

    python -m benchmarks.overhead [--epochs 30] [--rounds 3] [--device cpu]

Trains on the built-in shapes from scratch. The time on the training thread is measured around our registered
functions; the ratio is of the medians of all epochs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from types import SimpleNamespace

from benchmarks.surroundings import SMALL, private

EPOCH_EVENTS = (
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_model_save",
    "on_fit_epoch_end",
)


def import_milliseconds(statement: str) -> float:
    """Return the minimum of five timings of a statement in a new process, without the start of the interpreter."""
    code = f"import time; start = time.perf_counter(); {statement}; print(1e3 * (time.perf_counter() - start))"
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5))


def help_milliseconds() -> float:
    """Return the minimum of five timings of `yolo-cb --help`, whole process."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "yolo_callbacks", "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


class Stopwatch:
    """Adds up the time spent in our registered functions, by event."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def wrap(self, model) -> None:
        """Time each of our functions on a model."""
        from yolo_callbacks.session.hook import Hook

        for event, functions in model.callbacks.items():
            model.callbacks[event] = [self._timed(event, f) if isinstance(f, Hook) else f for f in functions]

    def _timed(self, event, function):
        def timed(trainer):
            start = time.perf_counter()
            function(trainer)
            self.seconds.setdefault(event, []).append(time.perf_counter() - start)

        return timed


def train(folder: Path, attached: bool, epochs: int, device: str) -> tuple[list[float], Stopwatch, int]:
    """Train once; return the seconds of each epoch, the time in our functions, and the number of batch functions."""
    from ultralytics import YOLO

    import yolo_callbacks as ycb
    from yolo_callbacks.datasets import SHAPES
    from yolo_callbacks.session.hook import Hook

    model, watch, seconds, per_batch = YOLO("yolo26n.yaml", verbose=False), Stopwatch(), [], 0
    if attached:
        ycb.attach(model)
        per_batch = sum(isinstance(f, Hook) for e in model.callbacks if "batch" in e for f in model.callbacks[e])
        watch.wrap(model)
    model.add_callback("on_train_epoch_start", lambda trainer: seconds.append(time.perf_counter()))
    model.train(
        **{**SMALL, "device": device}, data=str(SHAPES["detect"]), epochs=epochs, project=str(folder), name="run"
    )
    return [after - before for before, after in itertools.pairwise(seconds[1:])], watch, per_batch


def compare(epochs: int, rounds: int, device: str) -> None:
    """Train without, with, and without again; print the ratio, its noise, and the cost."""
    seconds: dict[str, list[float]] = {"without": [], "with": [], "without again": []}
    cost, batch_functions = [], 0
    for _ in range(rounds):
        for name, series in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                took, watch, functions = train(Path(folder), name == "with", epochs, device)
            series.extend(took)
            if name == "with":
                batch_functions = functions
                per_event = [watch.seconds[event][1 : epochs - 1] for event in EPOCH_EVENTS]
                cost += [1e3 * sum(times) for times in zip(*per_event)]
    medians = {name: statistics.median(series) for name, series in seconds.items()}
    plain = statistics.median(seconds["without"] + seconds["without again"])
    for name, median in medians.items():
        print(f"median epoch, {name:<14}{1e3 * median:.1f} ms ({len(seconds[name])} epochs)")
    print(f"ratio with / without       {medians['with'] / plain:.3f}")
    print(f"ratio without / without    {medians['without again'] / medians['without']:.3f} (noise)")
    print(f"on the training thread     {statistics.median(cost):.2f} ms per epoch (median), {max(cost):.2f} ms (worst)")
    print(f"functions per batch        {batch_functions} (0 us per batch)")


def grow(epochs: int) -> None:
    """Drive ledger, journal and CSV without a trainer; print the cost per epoch at several lengths."""
    import yolo_callbacks as ycb
    from yolo_callbacks.core.ledger import Ledger
    from yolo_callbacks.core.lineup import label
    from yolo_callbacks.run_dir.journal import Journal
    from yolo_callbacks.support.background import Background

    names = ["train/box_loss", "train/cls_loss", "train/l1_loss", "lr/pg0", "lr/pg1", "lr/pg2", "metrics/precision(B)"]
    names += ["metrics/recall(B)", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "val/box_loss", "val/cls_loss", "fitness"]
    callbacks = label([*(c for c in ycb.default_callbacks() if not isinstance(c, ycb.PlotLogger))])
    callbacks["EarlyStopping"] = ycb.EarlyStopping(patience=epochs + 1)
    plan = ycb.Plan(planned_epochs=epochs + 1, base_lr=0.01, final_lr=1e-4, trainer_patience=100)
    with tempfile.TemporaryDirectory() as folder:
        ledger, journal = Ledger(callbacks, plan), Journal(Path(folder) / "journal.jsonl")
        worker = Background("views", share=0.02)
        session = SimpleNamespace(
            entries=ledger.entries,
            measured_names=(),
            run=SimpleNamespace(callbacks_dir=Path(folder)),
            files=SimpleNamespace(background=lambda name: worker),
        )
        logger = callbacks["CSVLogger"]
        logger.setup(session)
        ledger.begin()
        journal.begin(ledger.content)
        took = []
        for epoch in range(1, epochs + 1):
            value = 0.5 + 0.1 * ((epoch * 7919) % 1000) / 1000
            record = ycb.EpochRecord(epoch, dict.fromkeys(names, value), planned_epochs=epochs + 1)
            start = time.perf_counter()
            entry = ledger.add(record)
            journal.append(entry, lambda: ledger.content)
            logger.act(session)
            took.append(1e3 * (time.perf_counter() - start))
        worker.close()
    windows = [e for e in (10, 100, 1_000, 10_000) if e <= epochs]
    for end in windows:
        window = took[max(0, end - 50) : end] if end > 10 else took[1:10]
        print(f"epochs up to {end:>6,}        {statistics.median(window):.3f} ms per epoch (median)")


def clock_microseconds(batches: int = 20_000) -> tuple[float, float]:
    """Return what the two batch events take without `SystemMonitor`'s clock, and with it: the minimum of 15 rounds.

    Thread time, so that other processes count little. The lists are those of an attached trainer.
    """
    from yolo_callbacks.trainer.epoch_clock import EpochClock
    from yolo_callbacks.trainer.patches.callback_lists import protect_callback_lists

    trainer = SimpleNamespace(
        callbacks={f"on_train_{name}": [] for name in ("epoch_start", "batch_start", "batch_end")}
    )
    protect_callback_lists(trainer, {})

    def batch() -> None:
        for event in ("on_train_batch_start", "on_train_batch_end"):
            for function in trainer.callbacks.get(event, []):  # as Ultralytics' run_callbacks
                function(trainer)

    def measured() -> float:
        return 1e6 * min(timeit.repeat(batch, number=batches, repeat=15, timer=time.thread_time)) / batches

    without, clock = measured(), EpochClock(trainer)
    clock.listen()
    clock.begin_epoch()
    return without, measured()


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    options = parser.parse_args()
    print(f"import yolo_callbacks      {import_milliseconds('import yolo_callbacks'):.1f} ms")
    print(f"yolo-cb --help             {help_milliseconds():.0f} ms, whole process")
    grow(10_000)
    without, timed = clock_microseconds()
    print(f"SystemMonitor              {timed - without:.2f} us per batch ({timed:.2f} with, {without:.2f} without)")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(private(Path(folder)))
        os.environ.pop("ULTRALYTICS_API_KEY", None)
        compare(options.epochs, options.rounds, options.device)
    import torch
    import ultralytics

    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}"
    if options.device != "cpu":
        machine += f", {torch.cuda.get_device_name(int(options.device))}"
    print(f"machine                    {machine}, Python {platform.python_version()}", end=", ")
    print(f"torch {torch.__version__}, ultralytics {ultralytics.__version__}")


if __name__ == "__main__":
    main()
