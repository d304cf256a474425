"""Kill real trainings, resume them, and compare each with one that was never killed.

`python -m tests.soak FOLDER --kills 50 --seed 0` kills at random moments, `--moments` at the worst ones. The process
imports everything once and never trains: each training is a fork of it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
from ultralytics import YOLO
from ultralytics.engine import trainer as engine
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests import crash
from tests.crash import die, ended, fork
from tests.helpers import TINY, TINY_MODEL, constant, slower
from tests.programs import import_heavy
from yolo_callbacks.datasets import build_shapes
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.run_dir.manifest import read_manifest
from yolo_callbacks.support import storage

PLANNED = 7
ARGUMENTS = {**TINY, "epochs": PLANNED, "optimizer": "AdamW", "warmup_epochs": 0, "name": "run"}
FATAL_EPOCH = 4
CELLS = ["epoch", "lr_factor", "event", "validated"]


def learning_rate(metrics):
    return metrics["lr/pg0"]


class Trainer(DetectionTrainer):
    """Ultralytics' own, but for the fitness: its best epoch is the one that is killed."""

    def validate(self):
        metrics, _ = super().validate()
        fitness = [0.1, 0.2, 0.3, 0.9, 0.3, 0.2, 0.1][self.epoch]
        self.best_fitness = max(self.best_fitness or 0, fitness)
        return metrics, fitness


def callbacks(patience):
    """Return what decides alike however often it is killed. One of the two ways does without a backup."""
    kept = [ycb.BackupAndRestore()] if patience > PLANNED else []
    return [
        *kept,
        ycb.EarlyStopping(monitor=constant, mode="max", patience=patience, restore_best_weights=True),
        ycb.ReduceLROnPlateau(monitor=constant, mode="max", patience=2, factor=0.5, cooldown=1),
        ycb.LearningRateScheduler(slower),
        ycb.ModelCheckpoint("e{epoch}", monitor=learning_rate, mode="min", save_top_k=2, every_n_epochs=3),
        ycb.CSVLogger(),
        ycb.PreemptionHandler(),
    ]


# ------------------------------------------------------------------------------------------------- in a forked child


def begin(data, folder, patience):
    model = YOLO(TINY_MODEL, verbose=False)
    ycb.attach(model, callbacks(patience))
    model.train(trainer=Trainer, data=str(data), project=str(folder), **ARGUMENTS, exist_ok=True)


def go_on(data, folder, patience):
    def resume(checkpoint):
        model = YOLO(checkpoint)
        ycb.attach(model, callbacks(patience))
        model.train(trainer=Trainer, resume=True)

    crash.go_on(folder / "run", resume, lambda: begin(data, folder, patience))


# ------------------------------------------------------------------------------------------------- what is compared


def outcome(folder):
    """Return all that a run leaves which must not depend on whether it was killed."""
    run = folder / "run"
    entries = read_journal(run / "callbacks" / "journal.jsonl").entries
    manifest = read_manifest(run / "callbacks" / "run.json")
    frame = pd.read_csv(run / "callbacks" / "epochs.csv")
    counters = [name for name in frame if "/wait" in name or "/cooldown" in name]
    stop = entries[-1].stop
    return {
        "epochs": [entry.record.epoch for entry in entries],
        "last": [entry.record.last for entry in entries],
        "decisions": [[decision.to_json() for decision in entry.decisions] for entry in entries],
        "columns": sorted(frame),
        "cells": {name: frame[name].astype(str).tolist() for name in [*CELLS, *counters]},
        "lr": [[round(v, 12) for k, v in e.record.metrics.items() if k.startswith("lr/")] for e in entries],
        "rows of results.csv": pd.read_csv(run / "results.csv")["epoch"].tolist(),
        "stop": (stop.reason, stop.epoch, stop.message) if stop else None,
        "run.json": [manifest.get(key) for key in ("status", "stop", "error", "epochs", "decisions")],
        "listed": sorted((c["file"], c["role"], c["epoch"], c["value"]) for c in manifest["checkpoints"]),
        "weights": {path.name: epoch_of(path) for path in sorted((run / "weights").iterdir())},
        "fitness of best.pt": torch_load(run / "weights/best.pt", "cpu")["train_metrics"]["fitness"],
        "other files": sorted(path.name for path in (run / "callbacks").iterdir()),
    }


def epoch_of(path):
    try:
        return torch_load(path, "cpu")["epoch"]
    except RuntimeError:
        return "does not load"


def differences(whole, resumed):
    return [f"{key}: {resumed[key]} instead of {whole[key]}" for key in whole if whole[key] != resumed[key]]


# ------------------------------------------------------------------------------------------------- where it is killed


def _writing(name, *, half=False, after=False, times=FATAL_EPOCH):
    """Die when a checkpoint of this name is written for the n-th time: before, in the middle, or right after."""

    def arm():
        whole, seen = storage.replace_unsynced, []

        def replace(path, data):
            seen.extend([1] * (path.name == name))
            fatal = path.name == name and len(seen) == times
            if fatal and half:
                path.with_name(f".{name}.tmp").write_bytes(data[: len(data) // 2])
            if fatal and not after:
                die()
            whole(path, data)
            if fatal:
                die()

        storage.replace_unsynced = replace

    return arm


def _journal(kind, *, half=False, after=False):
    """Die when the journal gets its line of the fatal epoch: `pending` before the checkpoint, `record` after it."""

    def arm():
        whole = storage.append_lines

        def append(path, text, **options):
            data = json.loads(text)
            fatal = kind in data and data[kind]["epoch"] == FATAL_EPOCH
            if fatal and half:
                with open(path, "a") as file:
                    file.write(text[: len(text) // 2])
            if fatal and not after:
                die()
            whole(path, text, **options)
            if fatal:
                die()

        storage.append_lines = append

    return arm


def _copying(name, *, after):
    """Die when a checkpoint is kept under a name of its own for the n-th time."""

    def arm():
        whole, seen = storage.copy, []

        def copy(source, target, edit=None):
            seen.extend([1] * (target.name == name))
            fatal = target.name == name and len(seen) == FATAL_EPOCH
            if fatal and not after:
                die()
            stored = whole(source, target, edit)
            if fatal:
                die()
            return stored

        storage.copy = copy

    return arm


def _stripping(name, *, half):
    """Die when Ultralytics strips a checkpoint in place, after the last epoch."""

    def arm():
        whole = engine.strip_optimizer

        def strip(path, *args, **kwargs):
            if path.name == name and half:
                path.write_bytes(path.read_bytes()[:1000])
                die()
            done = whole(path, *args, **kwargs)
            if path.name == name:
                die()
            return done

        engine.strip_optimizer = strip

    return arm


def _in_epoch(number):
    def arm():
        whole = engine.BaseTrainer.optimizer_step

        def step(trainer):
            if trainer.epoch == number - 1:
                die()
            whole(trainer)

        engine.BaseTrainer.optimizer_step = step

    return arm


def _evaluating():
    whole = engine.BaseTrainer.final_eval

    def final_eval(trainer):
        trainer.add_callback("on_val_start", lambda validator: die())
        whole(trainer)

    engine.BaseTrainer.final_eval = final_eval


MOMENTS = {
    "in the first epoch": _in_epoch(1),
    "in an epoch": _in_epoch(FATAL_EPOCH),
    "before the epoch is announced": _journal("pending"),
    "while the epoch is announced": _journal("pending", half=True),
    "before last.pt": _writing("last.pt"),
    "while last.pt is written": _writing("last.pt", half=True),
    "between last.pt and best.pt": _writing("last.pt", after=True),
    "while best.pt is written": _writing("best.pt", half=True),
    "before the journal": _journal("record"),
    "while the journal is written": _journal("record", half=True),
    "after the journal": _journal("record", after=True),
    "before the backup": _copying("backup.pt", after=False),
    "after the backup": _copying("backup.pt", after=True),
    "while last.pt is stripped": _stripping("last.pt", half=True),
    "after last.pt is stripped": _stripping("last.pt", half=False),
    "while best.pt is stripped": _stripping("best.pt", half=True),
    "after best.pt is stripped": _stripping("best.pt", half=False),
    "in the last evaluation": _evaluating,
}


def armed(arm, function, *args):
    arm()
    function(*args)


# ------------------------------------------------------------------------------------------------- the two ways


class Soak:
    def __init__(self, data, folder):
        self.data, self.folder = data, folder
        self.whole, self.seconds = {}, {}
        for patience in (3, 50):
            place = folder / f"whole-{patience}"
            started = time.monotonic()
            assert ended(fork(begin, data, place, patience, log=folder / "whole.log")) == 0, "see whole.log"
            self.seconds[patience] = time.monotonic() - started
            self.whole[patience] = outcome(place)

    def judge(self, name, place, patience, log, **facts):
        code = ended(fork(go_on, self.data, place, patience, log=log))
        found = differences(self.whole[patience], outcome(place)) if code == 0 else [f"exit code {code}, see {log}"]
        return {"name": name, "patience": patience, **facts, "differences": found}

    def at(self, moment):
        """Kill at one of the worst moments, in a run that stops by itself."""
        place, patience = (
            self.folder / moment.replace(" ", "-"),
            3 if "stripped" in moment or "evaluation" in moment else 50,
        )
        log = place.with_suffix(".log")
        code = ended(fork(armed, MOMENTS[moment], begin, self.data, place, patience, log=log))
        if code != -signal.SIGKILL:
            return {"name": moment, "differences": [f"it was not killed but ended with {code}, see {log}"]}
        return self.judge(moment, place, patience, log)

    def at_random(self, number, source):
        """Kill once, or several times in a row, wherever it hits."""
        place, patience = self.folder / f"random-{number}", source.choice([3, 50])
        log, moments = place.with_suffix(".log"), []
        child = fork(begin, self.data, place, patience, log=log)
        while True:
            moments.append(round(source.uniform(0, 1.05 * self.seconds[patience]), 3))
            time.sleep(moments[-1])
            os.kill(child, signal.SIGKILL)
            code = ended(child)
            if source.random() < 0.6 or code == 0:
                break
            child = fork(go_on, self.data, place, patience, log=log)
        if code == 0:  # it was faster than the kill
            found = differences(self.whole[patience], outcome(place))
            return {"name": number, "patience": patience, "killed after": moments, "differences": found}
        return self.judge(number, place, patience, log, **{"killed after": moments})


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moments", action="store_true")
    asked = parser.parse_args(words)
    import_heavy()
    shutil.rmtree(asked.folder, ignore_errors=True)
    data = build_shapes(asked.folder.resolve() / "shapes", "detect", train=4, val=4, size=64) / "data.yaml"
    soak, source = Soak(data, asked.folder.resolve()), random.Random(asked.seed)
    tries = [lambda m=moment: soak.at(m) for moment in MOMENTS] if asked.moments else []
    tries += [lambda n=number: soak.at_random(n, source) for number in range(1, asked.kills + 1)]
    results = []
    for attempt in tries:
        results.append(attempt())
        print(json.dumps(results[-1]), flush=True)
    bad = [result for result in results if result["differences"]]
    print(f"{len(results)} trainings killed and resumed, {len(bad)} differ from the one that was not", flush=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
