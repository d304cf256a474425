"""What survives what: plain Ultralytics, a callback written by hand, and yolo-callbacks. Each cell is a real training.

`python -m benchmarks.survival` prints the table of docs/survival.md.
"""

import csv
import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from ultralytics import YOLO
from ultralytics.engine import trainer as engine
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests.crash import die, ended, fork
from tests.helpers import TINY
from yolo_callbacks.datasets import build_shapes

PATIENCE, PLANNED, STOPS_IN, FIRST_RATE = 3, 9, 6, 0.01
ARGUMENTS = {**TINY, "epochs": PLANNED, "patience": PATIENCE, "optimizer": "AdamW", "warmup_epochs": 0, "name": "run"}


def schedule(epoch):
    """Return Ultralytics' linear schedule; epochs are counted from 0."""
    return (1 - epoch / PLANNED) * 0.99 + 0.01


class Trainer(DetectionTrainer):
    """Ultralytics' own, except for the fitness, which rises for three epochs and then stays: all contestants see it."""

    def validate(self):
        metrics, _ = super().validate()
        fitness = min(self.epoch + 1, 3) / 10
        self.best_fitness = max(self.best_fitness or 0, fitness)
        return metrics, fitness


class ByHand:
    """What people write: patience, half the learning rate, one row per epoch, the best checkpoint."""

    def __init__(self, file):
        self.file, self.best, self.wait = Path(file), 0, 0

    def on_fit_epoch_end(self, trainer):
        with open(self.file, "a", newline="") as file:
            csv.writer(file).writerow([trainer.epoch + 1, trainer.fitness])
        if trainer.fitness > self.best:
            self.best, self.wait = trainer.fitness, 0
            shutil.copy(trainer.last, trainer.wdir / "my_best.pt")
        else:
            self.wait += 1
        if self.wait == 1:
            for group in trainer.optimizer.param_groups:
                group["lr"] *= 0.5
        trainer.stop |= self.wait >= PATIENCE


class Contestant:
    name = "plain Ultralytics"
    arguments: dict = {}

    def prepare(self, model, folder):
        """Add its callbacks to a model."""

    def checkpoint(self, folder):
        return folder / "run" / "weights" / "last.pt"

    def rows(self, folder):
        return pd.read_csv(folder / "run" / "results.csv")["epoch"].tolist()

    def fail(self, model):
        model.add_callback("on_fit_epoch_end", broken)


class Hand(Contestant):
    name = "by hand"
    arguments = {"patience": 0}

    def prepare(self, model, folder):
        folder.mkdir(exist_ok=True, parents=True)
        model.add_callback("on_fit_epoch_end", ByHand(folder / "mine.csv").on_fit_epoch_end)

    def rows(self, folder):
        return [int(line.split(",")[0]) for line in (folder / "mine.csv").read_text().splitlines()]


class Ours(Contestant):
    name = "yolo-callbacks"
    arguments = {"patience": 0}

    def prepare(self, model, folder):
        ycb.attach(model, self.callbacks())

    def callbacks(self):
        return [
            ycb.EarlyStopping(patience=PATIENCE),
            ycb.ReduceLROnPlateau(patience=1, factor=0.5, cooldown=9),
            ycb.ModelCheckpoint(),
            ycb.CSVLogger(),
            ycb.BackupAndRestore(),
            ycb.PreemptionHandler(),
        ]

    def checkpoint(self, folder):
        return ycb.newest_checkpoint(folder / "run")

    def rows(self, folder):
        own = pd.read_csv(folder / "run" / "callbacks" / "epochs.csv")["epoch"].tolist()
        return own if own == super().rows(folder) else ["results.csv and epochs.csv differ"]

    def fail(self, model):
        ycb.attach(model, [*self.callbacks(), Broken()])


class Broken(ycb.Callback):
    def act(self, session):
        raise ValueError("this logger is broken")


def broken(trainer):
    raise ValueError("this logger is broken")


# ------------------------------------------------------------------------------------------------- trainings


def begin(who, data, folder, *, before=None, times=1, **arguments):
    model = YOLO("yolo26n.yaml", verbose=False)
    who.prepare(model, folder)
    if before is not None:
        before(who, model)
    for _ in range(times):
        settings = {**ARGUMENTS, **who.arguments, **arguments}
        model.train(trainer=Trainer, data=str(data), project=str(folder), exist_ok=True, **settings)


def resume(who, folder):
    model = YOLO(who.checkpoint(folder))
    who.prepare(model, folder)
    rates = {}
    model.add_callback("on_train_epoch_end", lambda t: rates.update({t.epoch + 1: t.optimizer.param_groups[0]["lr"]}))
    model.train(trainer=Trainer, resume=True)
    (folder / "rates.json").write_text(json.dumps(rates))


def lr_recorder(who, model):
    file = []

    def note(trainer):
        file.append(trainer.optimizer.param_groups[0]["lr"])
        (trainer.save_dir.parent / "rates.txt").write_text(" ".join(map(str, file)))

    model.add_callback("on_train_epoch_end", note)


def in_epoch(number, act):
    return lambda who, model: model.add_callback(
        "on_train_batch_start", lambda t: act(t) if t.epoch == number - 1 else None
    )


def after_saving(number):
    return lambda who, model: model.callbacks["on_model_save"].insert(
        0, lambda t: die() if t.epoch == number - 1 else None
    )


def before_saving(number):
    """Die in the middle of the Nth write of `last.pt`; whole=True: before it."""

    def arm(who, model, whole=False):
        write, seen = pathlib.Path.write_bytes, []

        def write_bytes(path, data):
            seen.extend([1] * (path.name in ("last.pt", ".last.pt.tmp")))
            if path.name in ("last.pt", ".last.pt.tmp") and len(seen) == number:
                if not whole:
                    write(path, data[: len(data) // 2])
                die()
            return write(path, data)

        pathlib.Path.write_bytes = write_bytes

    return arm


def while_stripping(who, model):
    def strip(path, *args, **kwargs):
        path.write_bytes(path.read_bytes()[:1000])
        die()

    engine.strip_optimizer = strip


# ------------------------------------------------------------------------------------------------- the rows


class Trial:
    def __init__(self, data, folder):
        self.data, self.folder, self.number = data, folder, 0

    def place(self):
        self.number += 1
        return self.folder / f"{self.number:02d}"

    def run(self, who, place, function=begin, **facts):
        log = place.with_suffix(".log")
        given = (who, self.data, place) if function is begin else (who, place)
        return ended(fork(lambda: function(*given, **facts), log=log))

    def killed(self, who, before):
        """Kill once and resume; return the place, or None if it cannot be resumed."""
        place = self.place()
        assert self.run(who, place, before=before) == -signal.SIGKILL
        return place if self.run(who, place, resume) == 0 else None

    def decides_as_before(self, who):
        place = self.killed(who, in_epoch(5, lambda t: die()))
        return place is not None and max(self.rows_of(place)) == STOPS_IN

    def rows_of(self, place):
        return pd.read_csv(place / "run" / "results.csv")["epoch"].tolist()

    def same_digits(self, who):
        """Compare with an uninterrupted run, in every digit of `results.csv` but the times."""
        whole, killed = self.place(), self.killed(who, in_epoch(5, lambda t: die()))
        assert self.run(who, whole) == 0
        if killed is None:
            return False
        frames = [pd.read_csv(place / "run" / "results.csv").drop(columns="time") for place in (whole, killed)]
        return frames[0].equals(frames[1])

    def one_row_per_epoch(self, who):
        for before in (after_saving(4), lambda w, m: before_saving(4)(w, m, whole=True)):
            place = self.killed(who, before)
            found = [] if place is None else who.rows(place)
            if found != sorted(set(found)) or found != list(range(1, len(found) + 1)) or not found:
                return False
        return True

    def torn_checkpoint(self, who):
        return self.killed(who, before_saving(4)) is not None

    def killed_at_the_end(self, who):
        place = self.killed(who, while_stripping)
        return place is not None and max(self.rows_of(place)) == STOPS_IN

    def lasting_learning_rate(self, who):
        if type(who) is Contestant:
            return None
        place = self.place()
        self.run(who, place, before=lr_recorder)
        rates = [float(rate) for rate in (place / "rates.txt").read_text().split()]
        return [round(rates[epoch] / (FIRST_RATE * schedule(epoch)), 3) for epoch in (4, 5)] == [0.5, 0.5]

    def learning_rate_after_resume(self, who):
        if type(who) is Contestant:
            return None
        place = self.killed(who, in_epoch(6, lambda t: die()))
        if place is None:
            return False
        rate = json.loads((place / "rates.json").read_text())["6"]
        return abs(rate / (FIRST_RATE * schedule(5)) - 0.5) < 1e-6

    def nan(self, who):
        place, done = self.place(), []

        def poison(trainer):
            if not done:
                done.append(1)
                next(trainer.model.parameters()).data.fill_(float("nan"))

        code = self.run(who, place, before=in_epoch(5, poison))
        return code == 0 and max(self.rows_of(place)) == STOPS_IN

    def final_evaluation(self, who):
        place = self.place()
        return self.run(who, place) == 0 and who.rows(place) == list(range(1, STOPS_IN + 1))

    def without_validation(self, who):
        place = self.place()
        return self.run(who, place, val=False) == 0 and max(self.rows_of(place)) == PLANNED

    def terminated(self, who):
        place = self.place()
        code = self.run(who, place, before=in_epoch(4, lambda t: os.kill(os.getpid(), signal.SIGTERM)))
        saved = list((place / "run" / "weights").glob("*.pt"))
        newest = max(torch_load(path, "cpu").get("updates") or 0 for path in saved)
        return code in (143, -signal.SIGTERM) and newest == 4  # one optimizer step per epoch: the fourth is saved

    def full_disk(self, who):
        def limit(size):
            return lambda t: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        def fill(who, model):
            in_epoch(2, limit(1_000_000))(who, model)
            in_epoch(4, limit(resource.RLIM_INFINITY))(who, model)

        place = self.place()
        return self.run(who, place, before=fill) == 0 and max(self.rows_of(place)) == STOPS_IN

    def broken_logger(self, who):
        return self.run(who, self.place(), before=lambda w, model: w.fail(model)) == 0

    def train_again(self, who):
        place = self.place()
        return self.run(who, place, times=2) == 0 and max(self.rows_of(place)) == STOPS_IN

    def removes_itself(self, who):
        """A callback that removes itself makes Ultralytics skip the one after it."""
        if type(who) is Contestant:
            return None
        place = self.place()

        def neighbor(trainer):
            trainer.callbacks["on_fit_epoch_end"].remove(neighbor)

        def before(who, model):
            model.callbacks["on_fit_epoch_end"].insert(-1, neighbor)

        return self.run(who, place, before=before) == 0 and who.rows(place)[:2] == [1, 2]


ROWS = {
    "killed mid-epoch and resumed: stops in the same epoch": "decides_as_before",
    "killed mid-epoch and resumed: same digits as an uninterrupted run": "same_digits",
    "killed around a checkpoint and resumed: one row per epoch in every log": "one_row_per_epoch",
    "killed while `last.pt` is written: can be resumed": "torn_checkpoint",
    "killed in the final evaluation and resumed: trains no extra epoch": "killed_at_the_end",
    "SIGTERM: the batches since the last checkpoint are saved": "terminated",
    "NaN in the loss: the repeated epoch counts once": "nan",
    "a reduced learning rate stays reduced": "lasting_learning_rate",
    "a reduced learning rate stays reduced after a kill and a resume": "learning_rate_after_resume",
    "`val=False`: an old fitness does not count against patience": "without_validation",
    "the final evaluation adds no row": "final_evaluation",
    "`train()` again: starts with fresh state": "train_again",
    "the disk is full for two epochs: training continues": "full_disk",
    "a logger raises: training continues": "broken_logger",
    "another callback removes itself: no epoch is missed": "removes_itself",
}


def main():
    torch.set_num_threads(2)
    folder = Path(tempfile.mkdtemp(prefix="survival-"))
    root = build_shapes(folder / "shapes", "detect", train=4, val=4, size=64)
    trial, contestants = Trial(root / "data.yaml", folder), [Contestant(), Hand(), Ours()]
    print("| | " + " | ".join(who.name for who in contestants) + " |")
    print("|---|" + "---|" * len(contestants))
    started, wrong = time.monotonic(), False
    for what, method in ROWS.items():
        cells = [getattr(trial, method)(who) for who in contestants]
        wrong |= cells[-1] is not True
        print(
            f"| {what} | " + " | ".join({True: "yes", False: "**no**", None: "-"}[cell] for cell in cells) + " |",
            flush=True,
        )
    print(f"\n{trial.number} runs in {time.monotonic() - started:.0f} s", file=sys.stderr)
    if not wrong:
        shutil.rmtree(folder)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
