"""A run at a glance, from its directory: state, best metric, epochs, time, size. Of runs made without us, too."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from yolo_callbacks.inspecting.state import Signs, State, judge
from yolo_callbacks.replaying.logged_run import LoggedRun, read_run
from yolo_callbacks.replaying.search import JOURNAL, RESULTS, LogFiles
from yolo_callbacks.run_dir.heartbeat import HEARTBEAT, read_heartbeats
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.run_dir.results_log import UnusableError, score_keys

_WITHOUT_RUNS = {"weights", "callbacks", "export"}
_ARGUMENTS = ("args.yaml", "opt.yaml")  # the second is YOLOv5's
_MOVING = (RESULTS, JOURNAL, "callbacks/run.json", f"callbacks/{HEARTBEAT}", "weights/last.pt")
_HEAD = re.compile(r"\([A-Z]\)")
_REUSE = 60.0  # seconds by which clocks may differ, when a process is compared with what it has written


@dataclass(frozen=True)
class Overview:
    """A run at a glance.

    Attributes:
        folder: The run directory.
        name: Its name: the path below the directory that was searched.
        state: Its state.
        why: What shows that state, or why the run ended.
        metric: Short name of what is compared: mAP50-95, top-1 accuracy, ... (the score of `ReplayReport`).
        best: Its best value; None if nothing was measured.
        best_epoch: The first epoch with that value.
        epochs: Number of the last epoch that is done; 0 for none.
        planned: Number of planned epochs; None if unknown.
        seconds: Seconds of training, summed over resumes; None if they are not logged.
        eta: Seconds left, if the run is running and says so.
        changed: When it last changed, in seconds since 1970.
        size: Bytes on disk.
        ours: Whether yolo-callbacks recorded it.
    """

    folder: Path
    name: str
    state: State
    why: str
    metric: str
    best: float | None
    best_epoch: int | None
    epochs: int
    planned: int | None
    seconds: float | None
    eta: float | None
    changed: float
    size: int
    ours: bool

    @property
    def age(self) -> float:
        """Seconds since the run last changed."""
        return max(0.0, time.time() - self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        changed = datetime.fromtimestamp(self.changed).astimezone().isoformat(timespec="seconds")
        plain = {**vars(self), "folder": str(self.folder), "state": self.state.value, "changed": changed}
        return {**plain, "age_seconds": round(self.age, 1)}


def find_runs(root: Path) -> Iterator[Path]:
    """Yield the run directories of a tree; the tree itself may be one."""
    for folder, folders, files in os.walk(root):  # does not follow links: `latest -> train7` would be there twice
        ours = Path(folder, "callbacks")
        if (
            RESULTS in files
            or (ours / "run.json").is_file()
            or (ours / JOURNAL.name).is_file()
            or ("weights" in folders and any(file in files for file in _ARGUMENTS))
        ):
            yield Path(folder)
        folders[:] = sorted(name for name in folders if name not in _WITHOUT_RUNS)


def overview_of(folder: Path, root: Path | None = None) -> Overview:
    """Return a run at a glance.

    Args:
        folder: The run directory.
        root: The directory that its name is relative to; None names it as given.
    """
    return overview_from(folder, manifest_of(folder), logged_run(folder), _name(folder, root))


def overview_from(folder: Path, manifest: Mapping[str, Any], run: LoggedRun | None, name: str) -> Overview:
    """Return a run at a glance whose `run.json` and epochs have been read; see `overview_of`."""
    heartbeat = read_heartbeats(folder / "callbacks", 1).get(0, {})
    best, best_epoch = _best(run)
    epochs = run.records[-1].epoch if run is not None else _rows(folder)
    planned = _planned(folder, manifest, run)
    changed = max(_times(folder), default=0.0)
    lately = float(heartbeat.get("time") or 0.0)
    signs = Signs(
        status=str(manifest.get("status") or ""),
        why=_why(manifest),
        alive=_alive(manifest, heartbeat, changed),
        stalled=heartbeat.get("status") == "stalled",
        silence=time.time() - max(changed, lately),
        epoch_seconds=_slowest(run),
        completed=bool(planned) and epochs >= (planned or 0),
        concluded=(folder / "results.png").exists(),
        patience_over=_patience_over(run, best_epoch),
    )
    state, why = judge(signs)
    timed = run is not None and run.timed
    return Overview(
        folder=folder,
        name=name,
        state=state,
        why=why,
        metric=_metric(run),
        best=best,
        best_epoch=best_epoch,
        epochs=epochs,
        planned=planned,
        seconds=run.records[-1].elapsed if run is not None and timed else None,
        eta=_eta(manifest, heartbeat) if state is State.RUNNING else None,
        changed=changed,
        size=size_of(folder),
        ours=bool(manifest),
    )


def logged_run(folder: Path) -> LoggedRun | None:
    """Return the epochs of a run; None if there is no validated one."""
    results, journal = folder / RESULTS, folder / JOURNAL
    logs = [LogFiles(folder, results)] if results.is_file() else []
    # the journal only if need be: it is longer, and its last line may be half written at this moment
    for files in (*logs, *([LogFiles(folder, None, journal)] if journal.is_file() else [])):
        try:
            return read_run(files)
        except (UnusableError, OSError):
            continue
    return None


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a directory; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                found = os.lstat(os.path.join(place, name))  # noqa: PTH118, three times as fast
            except OSError:  # deleted in the meantime
                continue
            seen[(found.st_dev, found.st_ino or hash((place, name)))] = found.st_size
    return sum(seen.values())


def _name(folder: Path, root: Path | None) -> str:
    relative = os.path.relpath(folder, root) if root is not None else str(folder)
    return folder.resolve().name if relative == "." else relative


def _best(run: LoggedRun | None) -> tuple[float | None, int | None]:
    """Return the best score and the first epoch with it."""
    if run is None:
        return None, None
    finite = [(score, -record.epoch) for score, record in zip(run.scores, run.records) if math.isfinite(score)]
    if not finite:
        return None, None
    value, epoch = max(finite)
    return value, -epoch


def _metric(run: LoggedRun | None) -> str:
    """Return the short name of the score."""
    if run is None:
        return ""
    keys = score_keys(max((tuple(record.metrics) for record in run.records), key=len))
    return _HEAD.sub("", keys[0].removeprefix("metrics/")).replace("accuracy_top1", "top1") if keys else ""


def _planned(folder: Path, manifest: Mapping[str, Any], run: LoggedRun | None) -> int | None:
    asked = (manifest.get("args") or {}).get("epochs")
    if isinstance(asked, int) and asked > 0:
        whole = run.records[-1].whole_epochs if run is not None else 0  # the trainer's `time` changes the plan
        return whole or asked
    if run is not None and run.arguments_known:
        return run.plan.planned_epochs
    from yolo_callbacks.replaying.arguments import read_arguments

    return read_arguments(folder, classifies=False, yolov5=False).epochs


def _rows(folder: Path) -> int:
    """Return the number of epochs in a log that has no validated one."""
    try:
        lines = (folder / RESULTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return len([line for line in lines[1:] if line.strip()])


def _slowest(run: LoggedRun | None) -> float | None:
    """Return the seconds of the slowest epoch; None before the second epoch."""
    if run is None or len(run.records) < 2 or not run.timed:
        return None
    times = [record.elapsed for record in run.records]
    return max(after - before for before, after in pairwise(times))


def _patience_over(run: LoggedRun | None, best_epoch: int | None) -> bool:
    if run is None or best_epoch is None or not run.arguments_known or not run.plan.trainer_patience:
        return False
    return run.records[-1].epoch - best_epoch >= run.plan.trainer_patience


def _why(manifest: Mapping[str, Any]) -> str:
    stop = manifest.get("stop") or {}
    return str(stop.get("message") or manifest.get("error") or "").removeprefix("stop, ")


def _times(folder: Path) -> Iterator[float]:
    for name in (*_MOVING, *_ARGUMENTS):
        try:
            yield (folder / name).stat().st_mtime
        except OSError:
            continue


def _eta(*sources: Mapping[str, Any]) -> float | None:
    found = [source["eta"] for source in reversed(sources) if isinstance(source.get("eta"), dict)]
    seconds = found[0].get("seconds") if found else None
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _alive(manifest: Mapping[str, Any], heartbeat: Mapping[str, Any], changed: float) -> bool | None:
    """Return whether the process of a run lives; None if it runs on another machine, or is not recorded."""
    source = heartbeat if "pid" in heartbeat else manifest
    pid = source.get("pid")
    if not isinstance(pid, int) or source.get("host") != socket.gethostname():
        return None
    import psutil

    try:
        process = psutil.Process(pid)
        # a process that began later only has its number
        return process.status() != psutil.STATUS_ZOMBIE and bool(process.create_time() < changed + _REUSE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return None


def common_metric(runs: Collection[Overview]) -> str:
    """Return the metric of all runs that have one; empty if it differs."""
    found = {run.metric for run in runs if run.metric}
    return found.pop() if len(found) == 1 else ""
