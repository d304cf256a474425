"""Measures validation schedules on real curves, and tests the constant of `every="auto"` on unseen repositories.

    python benchmarks/validation_schedule.py [FOLDER]

FOLDER is a tree of runs as for `fit_forecast.py`. Each schedule goes through the ledger, as in a training, and sees
only what it has validated. A schedule is luck where a single epoch stands out, so each runs three times: the fixed ones
are shifted by 0, 2 and 3 epochs, and `"auto"` has one more validation in epoch 2, 3 or none. Of `"auto"`, `enough` is
chosen on five sixths of the repositories as the largest that loses at most 0.001 there, and tested on the rest. Its
other constants come from a random search over all of these runs, so they are not unseen.
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from yolo_callbacks import EarlyStopping, ValidationSchedule
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.worth import WorthConstants, WorthFold
from yolo_callbacks.replaying.logged_run import read_run
from yolo_callbacks.replaying.search import find_logs

FOLDS, TARGET = 6, 0.001
ENOUGH = (0.0009, 0.0012, 0.0015)
EXTRA = (0, 2, 3)


@dataclass(frozen=True)
class Curve:
    """A run: its owner, its plan, its epochs and the score of each."""

    owner: str
    plan: Plan
    records: list[EpochRecord]
    scores: np.ndarray


def read_curves(folder: Path) -> list[Curve]:
    sources = folder / "SOURCES.csv"
    rows = csv.DictReader(sources.open(encoding="utf-8")) if sources.exists() else ()
    owners = {row["run"]: row["repository"] for row in rows}
    curves = []
    for files in find_logs(str(folder))[0]:
        run = read_run(files)
        scores = np.nan_to_num(np.array(run.scores, dtype=float), nan=-1.0)
        curves.append(Curve(owners.get(files.folder.name, files.name), run.plan, list(run.records), scores))
    return curves


def one(curve: Curve, callbacks: list, extra: int) -> tuple[float, float, float]:
    """Return the share of validations and of epochs that a run saves, and what it loses."""
    ledger = Ledger({str(number): callback for number, callback in enumerate(callbacks)}, curve.plan)
    ledger.begin()
    kept, number = [], 0
    for number, record in enumerate(curve.records, start=1):
        skip = ledger.skips_validation and number not in (extra, len(curve.records))
        if not skip:
            kept.append(number - 1)
        decisions = ledger.decide(replace(record, validated=False, metrics={}) if skip else record)
        if any(decision.kind == "stop" for decision in decisions):
            break
    total = len(curve.records)
    return 1 - len(kept) / total, 1 - number / total, float(curve.scores.max() - curve.scores[kept].max())


def measure(curves: list[Curve], make) -> np.ndarray:
    """Return the three shares of each run, means over the starts."""
    return np.array([np.mean([one(curve, make(extra), extra) for extra in EXTRA], axis=0) for curve in curves])


class Shifted(ValidationSchedule):
    """A fixed schedule that counts its epochs from another one."""

    shift = 0

    def _is_due(self, history: History, newest: int) -> bool:
        return (history.epoch + 1 + self.shift) % self.every == 0


def fixed(shift: int, always_last: float) -> ValidationSchedule:
    schedule = Shifted(5, always_last)
    schedule.shift = shift
    return schedule


def auto(enough: float | None = None) -> ValidationSchedule:
    schedule = ValidationSchedule("auto")
    if enough is not None:
        schedule._worth = WorthFold(WorthConstants(enough=enough))
    return schedule


def row(name: str, values: np.ndarray) -> None:
    validations, epochs, lost = values.T
    print(
        f"| {name} | {validations.mean():.1%} | {epochs.mean():.1%} | {lost.mean():.4f} | "
        f"{(lost > 0.005).mean():.1%} | {lost.max():.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("YOLO_CB_CURVES"))
    folder = parser.parse_args().folder
    if folder is None:
        parser.error("name a FOLDER of runs, or set YOLO_CB_CURVES")
    curves = read_curves(Path(folder))
    owners = sorted({curve.owner for curve in curves})
    print(f"{len(curves)} runs of {len(owners)} repositories\n")
    print("| rule | validations saved | epochs saved | mean loss | losing > 0.005 | worst |")
    print("| --- | --- | --- | --- | --- | --- |")
    row("every 5th, last 40 %", measure(curves, lambda shift: [fixed(shift, 0.4)]))
    row("every 5th, last 20 %", measure(curves, lambda shift: [fixed(shift, 0.2)]))
    row("auto", measure(curves, lambda _: [auto()]))
    row("patience auto", measure(curves, lambda _: [EarlyStopping("fitness", patience="auto")]))
    row(
        "patience auto, every 5th, last 40 %",
        measure(curves, lambda s: [fixed(s, 0.4), EarlyStopping(patience="auto")]),
    )
    row("patience auto, auto", measure(curves, lambda _: [auto(), EarlyStopping(patience="auto")]))
    candidates = {enough: measure(curves, lambda _: [auto(enough)]) for enough in ENOUGH}  # noqa: B023
    for enough, values in candidates.items():
        row(f"auto, enough={enough:g}", values)
    place = {owners[i]: n % FOLDS for n, i in enumerate(np.random.default_rng(0).permutation(len(owners)))}
    fold_of = np.array([place[curve.owner] for curve in curves])
    unseen = np.zeros((len(curves), 3))
    for fold in range(FOLDS):
        fits = [e for e, values in candidates.items() if values[fold_of != fold, 2].mean() <= TARGET]
        chosen = max(fits, default=min(ENOUGH))
        unseen[fold_of == fold] = candidates[chosen][fold_of == fold]
        row(f"fold {fold + 1}: enough={chosen:g}, on unseen repositories", unseen[fold_of == fold])
    row("all folds, on unseen repositories", unseen)
    low, high = np.percentile(
        [
            np.concatenate([unseen[[c.owner == name for c in curves]] for name in chosen]).mean(axis=0)
            for chosen in (np.random.default_rng(i).choice(owners, len(owners)) for i in range(500))
        ],
        [5, 95],
        axis=0,
    )
    saved, lost = f"saved {low[0]:.1%} to {high[0]:.1%}", f"lost {low[2]:.4f} to {high[2]:.4f}"
    print(f"\nRepositories resampled 500 times: {saved}, {lost} (5 % to 95 %)")


if __name__ == "__main__":
    main()
