"""Fail every system call that changes a run's files, or kill the training at it, and compare with an undisturbed run.

`python -m tests.faults FOLDER` first traces a short training with everything attached, and its resume after a kill.
Then each call found is, in a training of its own, made to fail (`errors`), or the last one before a SIGKILL, or half
done when that comes (`kills`). The process imports everything once and never trains: each training is a fork of it.
"""

import argparse
import errno
import json
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
from ultralytics import YOLO, settings
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests import crash
from tests.crash import ended, fork
from tests.exact import NOT_COMPARED, Case, digest, in_batch, with_workers
from tests.helpers import TINY, TINY_MODEL, constant
from tests.programs import import_heavy
from tests.syscalls import HALF, KILL, watched
from yolo_callbacks.datasets import build_shapes
from yolo_callbacks.reporting.event_log import steps_of
from yolo_callbacks.reporting.tensorboard_data import MARK
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.run_dir.manifest import read_manifest
from yolo_callbacks.session import exact_resume

NEW, RESUMED = "a new run", "a resumed run"
ERRORS = {"of a path": ("ENOSPC", "EIO", "EROFS", "EACCES"), "of a descriptor": ("ENOSPC", "EIO")}
OF_A_PATH = ("open", "openat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2")
HALVES = ("write", "sendfile", "copy_file_range")
EPOCHS, KILLED_IN = 3, 3
ARGUMENTS = {**TINY, "epochs": EPOCHS, "optimizer": "AdamW", "close_mosaic": 1, "save_period": 2, "name": "run"}


def learning_rate(metrics):
    return metrics["lr/pg0"]


def callbacks():
    """Return every callback that writes in this process, and those that decide."""
    return [
        ycb.BackupAndRestore(),
        ycb.EarlyStopping(monitor=constant, mode="max", patience=20, restore_best_weights=True),
        ycb.ReduceLROnPlateau(monitor=constant, mode="max", patience=1, factor=0.5),
        ycb.ModelCheckpoint("e{epoch}", monitor=learning_rate, mode="min", save_top_k=2, save_last=True),
        ycb.CSVLogger(),
        ycb.PerClassMetrics(heatmap=None),
        ycb.TensorBoard(write_graph=False),
        ycb.PreemptionHandler(),
    ]


# ------------------------------------------------------------------------------------------------- in a forked child


def begin(data, folder, arm=None):
    model = YOLO(TINY_MODEL, verbose=False)
    ycb.attach(model, callbacks())
    _train(model, arm, {**ARGUMENTS, "data": str(data), "project": str(folder)})


def go_on(data, folder):
    def resume(checkpoint):
        model = YOLO(checkpoint)
        ycb.attach(model, callbacks())
        _train(model, None, {"resume": True})

    def begin_again():
        shutil.rmtree(folder / "run", ignore_errors=True)
        begin(data, folder)

    crash.go_on(folder / "run", resume, begin_again)


def _train(model, arm, arguments):
    with_workers(model, Case())
    if arm is not None:
        arm(model)
    model.train(**arguments)


# ------------------------------------------------------------------------------------------------- what is compared


def outcome(folder):
    """Return all that a run leaves but durations and memory, each part under the name of its file."""
    run, end = folder / "run", folder / "end.json"
    found = {"the training": json.loads(end.read_text())} if end.exists() else {}  # not if killed after the last epoch
    for name, read in _PARTS.items():
        found[name] = _or_error(read, run / name)
    for path in run.glob("weights/**/*.pt"):
        found[path.relative_to(run).as_posix()] = _or_error(_checkpoint, path)
    files = (path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    found["files"] = sorted({re.sub(r"(tfevents\.).*", r"\1*", name) for name in files})
    return found


def _or_error(read, path):
    try:
        return read(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _csv(path):
    return pd.read_csv(path, dtype=str).drop(columns=[*NOT_COMPARED, "time"], errors="ignore").to_csv(index=False)


def _journal(path):
    entries = read_journal(path).entries
    return [[e.record.epoch, e.record.metrics, [d.to_json() for d in e.decisions], e.counters] for e in entries]


def _manifest(path):
    content = read_manifest(path)
    kept = sorted((item["file"], item["role"], item["epoch"]) for item in content["checkpoints"])
    return [*(content[key] for key in ("status", "stop", "error", "epochs", "decisions")), kept]


def _steps(path):
    return sorted(steps_of(path.parent, MARK))


def _checkpoint(path):
    content = torch_load(path, "cpu")
    model = content["model"] if content["ema"] is None else content["ema"]
    return [content["epoch"], content["optimizer"] is not None, digest(model.float().state_dict())]


_PARTS = {
    "results.csv": _csv,
    "callbacks/epochs.csv": _csv,
    "callbacks/classes.csv": _csv,
    "callbacks/journal.jsonl": _journal,
    "callbacks/run.json": _manifest,
    "events.out.tfevents.*": _steps,
}


def epochs_only(found):
    """Leave of an outcome what does not depend on the numbers: which epochs each part has, and which files there are.

    A checkpoint of `save_period` is left out: Ultralytics alone knows of it, and writes it after `last.pt`.
    """
    kept = {name: value for name, value in found.items() if not re.match(r"weights/epoch\d", name)}
    kept.pop("the training", None)
    for name, value in kept.items():
        if name.endswith(".csv"):
            kept[name] = [line.split(",")[0] for line in value.splitlines()]
        elif name.endswith(".jsonl"):
            kept[name] = [[epoch, decisions, counters] for epoch, _, decisions, counters in value]
        elif name.endswith(".pt"):
            kept[name] = value[:2]
    kept["files"] = [name for name in kept["files"] if not re.match(r"weights/epoch\d", name)]
    return kept


def differences(whole, other):
    """Return what differs, by its name, except for a note of the end that only one of the two has."""
    names = (whole | other).keys() - ({"the training"} if "the training" not in other else set())
    return {name: other.get(name) for name in sorted(names) if whole.get(name) != other.get(name)}


def excused(call, found):
    """Return the names of what may differ after an error: the file of the call, and what depends on it.

    A failed copy of a checkpoint leaves the one before, which is not removed in that case. Whatever is there is whole.
    """
    file = call.path.rpartition(" -> ")[2]
    file = re.sub(r"(^|/)\.(.+?)(\.\*)?\.tmp$", r"\1\2", file)
    if file == "weights":  # could not be made, or synced
        return set()
    may = {file, "files"}
    if file.startswith("weights/"):
        may |= {"callbacks/run.json", *(name for name in found if re.match(r"weights/(e\d|backup)", name))}
    if ".kept" in file:  # then neither is stripped
        may |= {"weights/last.pt", "weights/best.pt"}
    if file == "weights/best.pt":
        may |= {"weights/last.pt"}
    return {name for name in may if not (name.endswith(".pt") and "Error" in str(found.get(name)))}


# ------------------------------------------------------------------------------------------------- what is tried


class Faults:
    """Trainings with one fault each.

    Args:
        folder: For the trainings.

    Attributes:
        calls: The calls that change a new run's files, and those that change a resumed one's, in order.
    """

    def __init__(self, folder):
        self.place = folder / "now"  # the same for all: a checkpoint names its run's folder
        self.log, self._killed = folder / "log.txt", folder / "killed"
        self.data = build_shapes(folder / "shapes", "detect", train=8, val=4, size=64) / "data.yaml"
        self.calls = {NEW: [], RESUMED: []}
        self._clear()
        assert self._train(begin, self.calls[NEW].append) == 0, f"see {self.log}"
        self.whole = outcome(self.place)
        self._clear()
        assert ended(fork(begin, self.data, self.place, in_batch(KILLED_IN, 2), log=self.log)) == -signal.SIGKILL
        shutil.copytree(self.place, self._killed)
        assert self._train(go_on, self.calls[RESUMED].append) == 0, f"see {self.log}"
        assert not differences(self.whole, outcome(self.place))
        paths = [call.path for call in self.calls[NEW]]
        self._theirs = set(self.calls[NEW][: paths.index("callbacks")])  # before our first one

    def _clear(self, run=NEW):
        shutil.rmtree(self.place, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        if run == RESUMED:
            shutil.copytree(self._killed, self.place)
        else:
            self.place.mkdir()

    def _train(self, start, act=None):
        if act is None:
            return ended(fork(start, self.data, self.place, log=self.log))
        return watched(self.place / "run", act, start, self.data, self.place, log=self.log)

    def tries(self, kind, source):
        """Return all faults of a kind in random order, but first one at a call of each name and file, and so on.

        Args:
            kind: `errors` or `kills`.
            source: Of the random numbers.

        Returns:
            Each as (run, call, what), with the name of an error, `KILL` or `HALF`.
        """
        found, seen = [], Counter()
        for run, calls in self.calls.items():
            for call in calls:
                errors = ERRORS["of a path" if call.name in OF_A_PATH else "of a descriptor"]
                kills = (KILL, HALF) if call.name in HALVES else (KILL,)
                found += [(run, call, what) for what in (errors if kind == "errors" else kills)]
        source.shuffle(found)
        turns = []
        for run, call, _ in found:
            alike = run, call.name, re.sub(r"\d+", "", call.path)
            turns.append(seen[alike])
            seen[alike] += 1
        return [attempt for _, attempt in sorted(zip(turns, found), key=lambda item: item[0])]

    def disturb(self, run, call, what):
        """Let one call fail, or kill the process at it; go on if that has ended it; and return what was found."""
        met = []
        action = what if what in (KILL, HALF) else getattr(errno, what)

        def act(other):
            if other == call:
                met.append(other)
                return action
            return None

        self._clear(run)
        start = begin if run == NEW else go_on
        code = self._train(start, act)
        exact = not self._before_first_state()
        wrong = []
        if code and (again := self._train(go_on)):
            wrong.append(f"the resumed run ended with {again}")
        found, said = outcome(self.place), self.log.read_text(errors="replace").splitlines()
        if met and what in (KILL, HALF):
            wrong += self._judge_kill(code, found, exact)
        elif met:
            wrong += self._judge_error(run, call, code, found, said)
        elif code or differences(self.whole, found):
            wrong.append("the call was not met, but the run differs")
        fault = {"run": run, "call": str(call), "fault": what, "met": bool(met), "code": code, "wrong": wrong}
        return fault | ({"differ": differences(self.whole, found), "said": said[-40:]} if wrong else {})

    def _before_first_state(self):
        """Return whether the run was killed between its first `last.pt` and its first state: the weights go on."""
        run = self.place / "run"
        if list(run.glob("weights/states/*.state")) or not (run / "weights/last.pt").exists():
            return False
        return len((run / "results.csv").read_text().splitlines()) == 2  # the header, and epoch 1

    def _judge_kill(self, code, found, exact):
        if code != -signal.SIGKILL:
            return [f"it was not killed but ended with {code}"]
        # killed after `run.json` said that the run had ended, which nobody resumes: what was copied for that stays
        found = {name: value for name, value in found.items() if ".kept" not in name}
        found["files"] = [name for name in found["files"] if ".kept" not in name]
        if exact:
            return list(differences(self.whole, found))
        return list(differences(epochs_only(self.whole), epochs_only(found)))

    def _judge_error(self, run, call, code, found, said):
        theirs = (run == NEW and call in self._theirs) or call.path == "args.yaml"
        wrong = [f"it ended with {code}"] if code and not theirs else []
        differ = differences(self.whole, found)
        wrong += [name for name in differ if name not in excused(call, found)]
        told = [line for line in said if "[Errno" in line]
        if differ and not told and "states/" not in call.path:  # a state of a run that has ended does no harm
            wrong.append("nothing was said")
        if not theirs and (len(told) > 1 or any(line.startswith("Traceback") for line in said)):
            wrong.append("more than a sentence was said")
        return wrong


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["errors", "kills"])
    parser.add_argument("--sample", type=int, help="so many faults of each of these, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match", help="only calls that match this pattern, such as 'journal|run a'")
    asked = parser.parse_args(words)
    dict.update(settings, mlflow=False)  # of this process alone: it would take longer than the training
    exact_resume._MOST_REPEATED = -1.0  # every epoch has its state, or each run would make other calls
    import_heavy()
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    faults, source, results, began = Faults(asked.folder.resolve()), random.Random(asked.seed), [], time.monotonic()
    for run, calls in faults.calls.items():
        print(f"{run}: {len(calls)} calls, {len({(c.name, c.path) for c in calls})} kinds and files", flush=True)
    for kind in ("errors", "kills"):
        if asked.only in (None, kind):
            tries = faults.tries(kind, source)
            tries = [item for item in tries if re.search(asked.match or "", f"{item[0]}: {item[1]} {item[2]}")]
            for attempt in tries[: asked.sample]:
                results.append(faults.disturb(*attempt))
                print(json.dumps(results[-1]), flush=True)
    counts = Counter(result["fault"] for result in results if result["met"])
    bad = [result for result in results if result["wrong"]]
    print(f"{sum(counts.values())} faults in {time.monotonic() - began:.0f} s ({dict(counts)}), {len(bad)} did harm")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
