"""Kill real trainings, resume them, and compare every number with that of a plain Ultralytics run left alone.

`python -m tests.exact FOLDER` runs all cases, `python -m tests.exact FOLDER segment mixing` those of these names;
`--kills 20` kills each at random moments instead of the worst ones. The process imports everything once and never
trains: each training is a fork of it.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
import yaml
from ultralytics import YOLO, settings
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests import crash
from tests.crash import die, ended, fork
from tests.helpers import TINY, TINY_MODEL, constant, slower
from yolo_callbacks.datasets import SHAPES, build_shapes
from yolo_callbacks.run_dir import training_states
from yolo_callbacks.session import exact_resume, resuming

NOT_COMPARED = ["seconds", "images_per_second", "rss_gb", "gpu_gb", "elapsed"]  # of epochs.csv
MIXING = {"mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "degrees": 20.0, "shear": 5.0, "flipud": 0.5, "bgr": 0.2}
CLASSIFY = {"erasing": 0.4, "auto_augment": "randaugment"}


# ------------------------------------------------------------------------------------------------- where it is killed


def in_batch(epoch, batch=1):
    """Die before a batch of an epoch, both counted from 1."""

    def arm(model):
        seen = []
        model.add_callback("on_train_epoch_start", lambda trainer: seen.clear())

        def count(trainer):
            seen.append(1)
            if (trainer.epoch + 1, len(seen)) == (epoch, batch):
                die()

        model.add_callback("on_train_batch_start", count)

    return arm


def at(event, epoch):
    """Die at one of the trainer's events, after all else that listens to it."""

    def arm(model):
        def listen(trainer):
            trainer.callbacks[event].append(lambda trainer: trainer.epoch + 1 == epoch and die())

        model.add_callback("on_train_start", listen)

    return arm


def in_validation(epoch):
    def arm(model):
        now = []
        model.add_callback("on_train_epoch_start", lambda trainer: now.append(trainer.epoch + 1))
        model.add_callback("on_val_batch_start", lambda validator: now[-1] == epoch and die())

    return arm


def while_saving(epoch, *, after=False):
    """Die when the training's state is half written, or in its place."""

    def arm(model):
        whole = training_states.TrainingStates.write

        def write(states, number, content, **options):
            if number == epoch and not after:
                states.folder.mkdir(exist_ok=True)
                (states.folder / f".epoch{epoch}-rank0of1.state.0.tmp").write_bytes(b"half")
                die()
            whole(states, number, content, **options)
            if number == epoch:
                die()

        training_states.TrainingStates.write = write

    return arm


def still_writing(since, die_at):
    """Let the state of an epoch take so long to write that later epochs have none when the process dies."""

    def arm(model):
        whole = training_states.TrainingStates.write

        def write(states, number, content, **options):
            if number >= since:
                time.sleep(600)
            whole(states, number, content, **options)

        training_states.TrainingStates.write = write
        die_at(model)

    return arm


def on_a_slow_machine(arm):
    """Let epochs count as short however long they take, or the training would wait for the state."""

    def armed(model):
        exact_resume._MOST_REPEATED = resuming._MOST_REPEATED = float("inf")
        arm(model)

    return armed


def by_signal(epoch, batch=2):
    """Be told to leave in the middle of an epoch."""

    def arm(model):
        seen = []

        def tell(trainer):
            seen.append(trainer.epoch + 1)
            if seen.count(epoch) == batch:
                signal.raise_signal(signal.SIGTERM)

        model.add_callback("on_train_batch_start", tell)

    return arm


# ------------------------------------------------------------------------------------------------- what is tried


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        arguments: Arguments of `train`, over `TINY`.
        kills: Trainings in which these kills come one after the other.
        callbacks: What decides, beside what keeps the state.
        workers: Of the training loader; a trainer on the CPU has none by itself.
        images: Pictures to train on.
    """

    arguments: dict = field(default_factory=dict)
    kills: dict = field(default_factory=lambda: USUAL)
    task: str = "detect"
    model: str = TINY_MODEL
    callbacks: tuple = ()
    workers: int = 0
    images: int = 12
    epochs: int = 6


USUAL = {
    "in an epoch": [in_batch(4, 2)],
    "in validation, and again while saving": [in_validation(3), while_saving(4)],
}
ALL_MOMENTS = {
    "before the first batch of an epoch": [in_batch(3)],
    "in an epoch": [in_batch(3, 2)],
    "before the last epoch": [in_batch(6)],
    "after an epoch's batches": [at("on_train_epoch_end", 3)],
    "in validation": [in_validation(3)],
    "when last.pt is written and the state is not": [at("on_model_save", 3)],
    "while the state is written": [while_saving(3)],
    "while the state of three epochs before is written, and again": [
        on_a_slow_machine(still_writing(2, in_batch(5, 2))),
        on_a_slow_machine(in_batch(2, 2)),
    ],
    "when the state is written": [while_saving(3, after=True)],
    "at the end of an epoch": [at("on_fit_epoch_end", 3)],
    "in an epoch, twice": [in_batch(3, 2), in_batch(3, 3)],
    "in three epochs": [in_batch(2, 2), at("on_model_save", 4), in_batch(6, 2)],
    "by SIGTERM": [by_signal(3)],
    "by SIGTERM and by SIGKILL": [by_signal(3), in_batch(3, 3)],
}
WORKERS = {
    "in an epoch": [in_batch(4, 2)],
    "when last.pt is written and the state is not, and in the next epoch": [at("on_model_save", 2), in_batch(3)],
}
WITHOUT_VALIDATION = {"in an epoch": [in_batch(4, 2)], "in two epochs": [in_batch(2, 3), in_batch(5, 2)]}
ADAMW = {"optimizer": "AdamW"}
CASES = {
    "detect": Case({**ADAMW, "nbs": 12, "warmup_epochs": 2.5, "close_mosaic": 2}, ALL_MOMENTS),
    "defaults": Case({"warmup_epochs": 3, "nbs": 64}),
    "accumulation over epochs": Case({**ADAMW, "nbs": 20, "batch": 4}, images=12),
    "mosaic closes in the resumed epoch": Case({**ADAMW, "close_mosaic": 3}, {"in": [in_batch(4)]}),
    "mosaic was closed before": Case({**ADAMW, "close_mosaic": 4}, {"in": [in_batch(5)]}),
    "rect": Case({**ADAMW, "rect": True}),
    "cache": Case({**ADAMW, "cache": "ram"}),
    "val=False": Case({**ADAMW, "val": False}, WITHOUT_VALIDATION),
    "val=False and patience": Case(
        {**ADAMW, "val": False, "patience": 4, "lr0": 0.0},
        WITHOUT_VALIDATION,
        epochs=9,
    ),
    "multi_scale": Case({**ADAMW, "multi_scale": 0.5}),
    "mixing": Case({**ADAMW, **MIXING}),
    "SGD and cosine": Case({"optimizer": "SGD", "cos_lr": True}),
    "MuSGD": Case({"optimizer": "MuSGD", "nbs": 16}),
    "auto": Case({"optimizer": "auto"}),
    "freeze": Case({**ADAMW, "freeze": 1}),
    "early stop by Ultralytics": Case({**ADAMW, "patience": 3, "lr0": 0.0}, epochs=9),
    "callbacks": Case(
        ADAMW,
        callbacks=(
            lambda: ycb.ReduceLROnPlateau(monitor=constant, mode="max", patience=1, factor=0.5),
            lambda: ycb.LearningRateScheduler(slower),
            lambda: ycb.FreezeBackbone(3, layers=[0, 1]),
            lambda: ycb.ModelCheckpoint("e{epoch}", save_best_only=False),
        ),
    ),
    "early stop by a callback": Case(
        ADAMW,
        epochs=9,
        callbacks=(
            lambda: ycb.EarlyStopping(constant, patience=4, mode="max", restore_best_weights=True),
            lambda: ycb.FreezeBackbone(4, layers=[0], lr_factor=0.1, lr_ramp_epochs=2),
        ),
    ),
    "a plateau that finishes": Case(
        {**ADAMW, "close_mosaic": 2},
        epochs=12,
        callbacks=(lambda: ycb.EarlyStopping(constant, patience=2, mode="max", on_plateau="finish", finish_epochs=3),),
        kills={"in": [in_batch(3), in_batch(4), in_batch(6)]},
    ),
    "workers": Case({**ADAMW, "nbs": 12, "warmup_epochs": 2, "close_mosaic": 2}, {**ALL_MOMENTS, **WORKERS}, workers=2),
    "workers, odd batches": Case({**ADAMW, **MIXING}, WORKERS, workers=2, images=18),
    "workers, a large data set": Case(ADAMW, WORKERS, workers=2, images=61, epochs=5),
    "one worker": Case(ADAMW, WORKERS, workers=1, images=9),
    "workers, mosaic closes in the resumed epoch": Case({**ADAMW, "close_mosaic": 3}, {"in": [in_batch(4)]}, workers=2),
    "workers, mosaic was closed before": Case({**ADAMW, "close_mosaic": 4}, {"in": [in_batch(5)]}, workers=2),
    "workers, multi_scale, rect": Case({**ADAMW, "multi_scale": 0.5, "rect": True}, WORKERS, workers=2),
    **{
        f"{task}{', workers' * (workers > 0)}": Case(
            {**ADAMW, "close_mosaic": 1, "nbs": 8, **(CLASSIFY if task == "classify" else {"copy_paste": 0.3})},
            USUAL if not workers else WORKERS,
            task,
            f"yolo26n-{suffix}.yaml",
            workers=workers,
            epochs=5,
        )
        for task, suffix in {
            "segment": "seg",
            "pose": "pose",
            "obb": "obb",
            "classify": "cls",
            "semantic": "sem",
            "depth": "depth",
        }.items()
        for workers in (0, 2)
    },
    "YOLO26n": Case({**ADAMW, "close_mosaic": 2}, model="yolo26n.yaml", epochs=5),
    "YOLO11n": Case({**ADAMW, "close_mosaic": 2}, model="yolo11n.yaml", epochs=5),
}

SUITE = {
    "detect": [
        "when last.pt is written and the state is not",
        "while the state of three epochs before is written, and again",
        "in an epoch, twice",
    ],
    "workers": ["when last.pt is written and the state is not, and in the next epoch"],
}
"""Moments by case."""


# ------------------------------------------------------------------------------------------------- in a forked child


def callbacks(case):
    return [*(make() for make in case.callbacks), ycb.BackupAndRestore(), ycb.PreemptionHandler(), ycb.CSVLogger()]


def with_workers(model, case):
    """Load pictures in workers, on the CPU too, and note what the training ends with."""
    model.callbacks["on_pretrain_routine_start"].insert(0, lambda t: setattr(t.args, "workers", case.workers))
    model.callbacks["on_train_start"].insert(0, listen_last)


def listen_last(trainer):
    trainer.callbacks["on_fit_epoch_end"].append(note_end)


def note_end(trainer):
    """Note the digests of all that was learnt; of the last epoch, and not of the final evaluation."""
    file = trainer.save_dir.parent / "end.json"
    if not trainer.stop or not trainer.validator.training:
        return
    moments = trainer.optimizer.state_dict()["state"]
    content = {
        "model": unwrap_model(trainer.model).state_dict(),
        "EMA": trainer.ema.ema.state_dict(),
        "optimizer": {f"{n}.{name}": value for n, state in moments.items() for name, value in state.items()},
    }
    digests = {name: digest(tensors) for name, tensors in content.items()}
    facts = {"updates": trainer.ema.updates, "best_fitness": float(trainer.best_fitness or 0), "epoch": trainer.epoch}
    file.with_suffix(".tmp").write_text(json.dumps({**digests, **facts}))
    file.with_suffix(".tmp").replace(file)


def digest(tensors):
    found = hashlib.sha256()
    for name, value in tensors.items():
        if isinstance(value, torch.Tensor):
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def begin(case, data, folder, attached=True, arm=None):
    model = YOLO(case.model, verbose=False)
    if attached:
        ycb.attach(model, callbacks(case))
    place = {"data": str(data), "project": str(folder), "name": "run"}
    train(model, case, arm, {**TINY, "close_mosaic": 1, **case.arguments, "epochs": case.epochs, **place})


def go_on(case, data, folder, arm=None):
    def resume(checkpoint):
        model = YOLO(checkpoint)
        ycb.attach(model, callbacks(case))
        train(model, case, arm, {"resume": True})

    def begin_again():
        shutil.rmtree(folder / "run", ignore_errors=True)
        begin(case, data, folder, arm=arm)

    crash.go_on(folder / "run", resume, begin_again)


def train(model, case, arm, arguments):
    with_workers(model, case)
    if arm is not None:
        arm(model)
    model.train(**arguments)


# ------------------------------------------------------------------------------------------------- what is compared


def outcome(folder, *, attached=True):
    """Return every number that a training has left, but for durations and memory."""
    run, end = folder / "run", folder / "end.json"
    found = {
        **(json.loads(end.read_text()) if end.exists() else {}),  # not if killed right after the last checkpoint
        "results.csv": pd.read_csv(run / "results.csv", dtype=str).drop(columns="time").to_csv(),
        **{name: digest(YOLO(run / "weights" / name).model.state_dict()) for name in ("last.pt", "best.pt")},
    }
    if attached:
        frame = pd.read_csv(run / "callbacks" / "epochs.csv", dtype=str)
        found["epochs.csv"] = frame.drop(columns=NOT_COMPARED, errors="ignore").to_csv()
        found["files"] = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return found


def differences(whole, other):
    return [name for name in other if name in whole and whole[name] != other[name]]


def in_path(name):
    return re.sub(r"\W+", "-", name)


class Matrix:
    def __init__(self, folder):
        self.folder = folder
        self._data = {}

    def data(self, case):
        key = f"{case.task}-{case.images}"
        if key not in self._data:
            root = build_shapes(self.folder / "data" / key, case.task, train=case.images, val=6, size=64)
            if case.task == "classify":
                self._data[key] = root
            else:
                content = {**yaml.safe_load(SHAPES[case.task].read_text()), "path": str(root)}
                content.pop("download", None)
                self._data[key] = root / "data.yaml"
                self._data[key].write_text(yaml.safe_dump(content))
        return self._data[key]

    def run(self, name, moments):
        """Run one case: a plain training, one with callbacks, and those that are killed; yield what was found."""
        case, place = CASES[name], self.folder / in_path(name)
        place.mkdir(parents=True)
        log, data = place / "log.txt", self.data(case)
        assert ended(fork(begin, case, data, place / "whole", log=log)) == 0, f"see {log}"
        whole = outcome(place / "whole")
        if not case.callbacks:  # those change the training
            assert ended(fork(begin, case, data, place / "plain", False, log=log)) == 0, f"see {log}"
            yield {
                "case": name,
                "killed": "never",
                "differences": differences(whole, outcome(place / "plain", attached=False)),
            }
        for moment in moments or case.kills:
            found = self._kill(case, data, place / in_path(moment), case.kills[moment], whole)
            yield {"case": name, "killed": moment, **found}

    def at_random(self, name, kills, source):
        """Kill one case at random moments, once or several times in a row, and yield what was found."""
        case, place = CASES[name], self.folder / in_path(f"{name} at random")
        place.mkdir(parents=True)
        log, data = place / "log.txt", self.data(case)
        began = time.monotonic()
        assert ended(fork(begin, case, data, place / "whole", log=log)) == 0, f"see {log}"
        seconds, whole = time.monotonic() - began, outcome(place / "whole")
        for number in range(1, kills + 1):
            folder, moments, code = place / str(number), [], None
            child = fork(begin, case, data, folder, log=folder.with_suffix(".log"))
            while code != 0 and (not moments or source.random() < 0.4):
                moments.append(round(source.uniform(0.1, 1.05) * seconds, 2))
                time.sleep(moments[-1])
                os.kill(child, signal.SIGKILL)
                code = ended(child)
                child = fork(go_on, case, data, folder, log=folder.with_suffix(".log"))
            code = ended(child)
            found = differences(whole, outcome(folder)) if code == 0 else [f"ended with {code}"]
            said = [line for line in folder.with_suffix(".log").read_text().splitlines() if "Resuming " in line]
            said = [line[line.index("Resuming ") :] for line in said if "Resuming training" not in line]
            yield {"case": name, "killed": moments, "differences": found, "said": said}

    def _kill(self, case, data, folder, arms, whole):
        log, start = folder.with_suffix(".log"), begin
        for arm in arms:
            code = ended(fork(start, case, data, folder, *([True] if start is begin else []), arm, log=log))
            if code not in (-signal.SIGKILL, 143):
                return {"differences": [f"it was not killed but ended with {code}, see {log}"]}
            start = go_on
        code = ended(fork(go_on, case, data, folder, log=log))
        if code:
            return {"differences": [f"the resumed one ended with {code}, see {log}"]}
        said = [line for line in log.read_text(errors="replace").splitlines() if "Resuming" in line]
        exact = [line for line in said if "Resuming exactly" in line]
        found = differences(whole, outcome(folder))
        return {"exact": f"{len(exact)} of {len(arms)}", "differences": found}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(CASES))
    parser.add_argument("--kills", type=int, default=0, help="kill at random moments instead, so many times a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suite", action="store_true", help="the few that every run of the tests has time for")
    asked = parser.parse_args(words)
    dict.update(settings, mlflow=False)  # of this process alone: it would take longer than the training
    exact_resume._MOST_REPEATED = -1.0  # every epoch has its state, or no moment would be sure to come
    shutil.rmtree(asked.folder, ignore_errors=True)
    matrix, results, source = Matrix(asked.folder.resolve()), [], random.Random(asked.seed)
    chosen = dict.fromkeys(asked.names or CASES, ())
    for name, moments in (SUITE if asked.suite else chosen).items():
        started = time.monotonic()
        kills = matrix.at_random(name, asked.kills, source) if asked.kills else matrix.run(name, moments)
        for result in kills:
            results.append(result)
            print(json.dumps({**result, "seconds": round(time.monotonic() - started, 1)}), flush=True)
    bad = [result for result in results if result["differences"]]
    print(f"{len(results)} trainings compared, {len(bad)} differ from the one that was left alone", flush=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
