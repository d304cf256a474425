"""How far off the estimated time left is, on the real clocks of logged runs, beside the naive estimate.

    python benchmarks/eta.py [FOLDER]

FOLDER is a tree of runs, each with a results.csv that has the column `time`. Default: the environment variable
YOLO_CB_CURVES. After 5, 10, 25 and 50 % of its epochs, each run is asked how long its remaining epochs will take. The
naive estimate is elapsed / done x remaining. The error is relative to the time that they took. The number of epochs is
that of the log, so only the prices are judged, not whether a run stops early. A results.csv has no separate clock for
the validation, and none for the final evaluation. If there is a SOURCES.csv with the columns `run` and `repository`,
the errors are also given with each repository counting once, by its median.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import defaultdict
from math import ceil
from pathlib import Path
from statistics import median

from yolo_callbacks import History
from yolo_callbacks.core.eta import time_left
from yolo_callbacks.replaying.logged_run import read_run
from yolo_callbacks.replaying.search import find_logs
from yolo_callbacks.run_dir.results_log import UnusableError

SHARES = (0.05, 0.1, 0.25, 0.5)


def timed_runs(folder):
    """Yield the runs whose log has the time of every epoch."""
    for logs in find_logs(folder)[0]:
        try:
            run = read_run(logs)
        except UnusableError:
            continue
        times = [record.elapsed for record in run.records]
        whole = [record.epoch for record in run.records] == list(range(1, len(times) + 1))
        if run.timed and whole and len(times) > 1 and times[0] > 0 and times == sorted(times):
            yield run


def errors(run, share):
    """Return the relative errors of our estimate and of the naive one."""
    done, epochs = ceil(share * len(run.records)), len(run.records)
    told = time_left(History(run.plan, run.records[:done]), epochs)
    elapsed = run.records[done - 1].elapsed
    took = run.records[-1].elapsed - elapsed
    return [abs(guess - took) / took for guess in (told.seconds, elapsed / done * (epochs - done))]


def row(name, values):
    ordered = sorted(values)
    ninetieth = ordered[int(0.9 * len(ordered))]
    return f"{name}: median {100 * median(ordered):.1f} %, 90th percentile {100 * ninetieth:.0f} %"


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["YOLO_CB_CURVES"])
    sources = folder / "SOURCES.csv"
    rows = csv.DictReader(sources.open(newline="", encoding="utf-8")) if sources.exists() else ()
    repository = {item["run"]: item["repository"] for item in rows}
    runs = list(timed_runs(folder))
    print(f"{len(runs)} runs with a clock")
    for share in SHARES:
        found = {run.name: errors(run, share) for run in runs if ceil(share * len(run.records)) < len(run.records)}
        print(f"after {100 * share:g} % of the epochs")
        for index, name in enumerate(("ours", "naive")):
            print("  " + row(name, [both[index] for both in found.values()]))
            grouped = defaultdict(list)
            for run, both in found.items():
                grouped[repository.get(run, run)].append(both[index])
            if repository:
                print("    " + row("each repository once", [median(values) for values in grouped.values()]))


if __name__ == "__main__":
    main()
