"""Fits the constants of `patience="auto"` to real curves, and tests the rule on curves it was not fitted to.

    python benchmarks/fit_forecast.py [FOLDER]

FOLDER is a tree of runs, each with its results.csv (and args.yaml, if any). Default: the environment variable
YOLO_CB_CURVES. The constants are maximum-likelihood estimates: they make what the rest of each run brought most likely,
given what was known after each epoch (Student-t with 4 degrees of freedom, the same weight for each run). They are
fitted to five sixths of the runs and tested on the rest, with all runs of a repository on the same side (SOURCES.csv
names the repositories; without it, each run is its own). What a rule saves is measured, but never fitted.

For comparison, the same rule with another forecast: a parametric learning curve through all epochs so far, the better
of a power law and an exponential (two of the families of Domhan et al., 2015), extrapolated to the last epoch.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit, minimize

from yolo_callbacks.core.forecast import Constants, ForecastFold, Signals, expected_excess
from yolo_callbacks.core.monitor import Monitor
from yolo_callbacks.core.record import History
from yolo_callbacks.replaying.logged_run import read_run
from yolo_callbacks.replaying.search import find_logs

FITNESS = Monitor.of("fitness")
FOLDS, PARTITIONS = 6, 3
TOLERANCES = (0.005, 0.01, 0.015, 0.0175, 0.02, 0.03, 0.05)


@dataclass(frozen=True)
class Curve:
    """A run: its owner, the fitness and mean mAP50-95 of each epoch, and the forecast's signals."""

    owner: str
    fitness: np.ndarray
    scores: np.ndarray
    signals: list[tuple[Signals, ...]]
    record: list[bool]


def read_curves(folder: Path) -> list[Curve]:
    sources = folder / "SOURCES.csv"
    rows = csv.DictReader(sources.open(encoding="utf-8")) if sources.exists() else ()
    owners = {row["run"]: row["repository"] for row in rows}
    curves = []
    for files in find_logs(str(folder))[0]:
        run = read_run(files)
        fold, history, states = ForecastFold(FITNESS), History(run.plan), []
        for record in run.records:
            history.append(record)
            states.append(history.fold(fold))
        fitness, scores = (
            np.nan_to_num(np.array(values, dtype=float), nan=-math.inf)
            for values in ([FITNESS.value(record) for record in run.records], run.scores)
        )
        owner = owners.get(files.folder.name, files.name)
        curves.append(Curve(owner, fitness, scores, [s.signals for s in states], [s.record for s in states]))
    return curves


def matrix(curves: list[Curve]) -> np.ndarray:
    """Return one row per epoch with a forecast: trend, records, noise, surprise, actual gain over the level, weight.

    All but the weight are shares of the progress, so that a run at 0.9 counts like one at 0.2.
    """
    rows = []
    for curve in curves:
        ahead = np.maximum.accumulate(curve.fitness[::-1])[::-1]
        last = int(np.flatnonzero(np.isfinite(curve.fitness))[-1])
        known = [(i, signals[0]) for i, signals in enumerate(curve.signals[:last]) if signals]
        for i, s in known:
            values = (s.trend, s.records, s.noise, s.progress * s.remaining / s.planned, ahead[i + 1] - s.level)
            rows.append((*(value / s.progress for value in values), 1 / len(known)))
    return np.array(rows)


def fit(curves: list[Curve]) -> Constants:
    trend, records, noise, surprise, came, weight = matrix(curves).T

    def badness(theta: np.ndarray) -> float:
        of_noise, of_trend = np.exp(theta[2:])
        scale = np.sqrt((of_noise * noise) ** 2 + (of_trend * trend) ** 2 + (Constants.surprise * surprise) ** 2)
        z = (came - theta[0] * trend - theta[1] * records) / scale
        return float((weight * (2.5 * np.log1p(z * z / 4) + np.log(scale))).sum() / weight.sum())

    best = minimize(badness, np.array([0.5, 0.5, 0.0, -1.0]), method="L-BFGS-B").x
    return Constants(float(best[0]), float(best[1]), *(float(value) for value in np.exp(best[2:])))


def stop_epoch(curve: Curve, constants: Constants, tolerance: float) -> int:
    """Return the epoch that the rule stops after, the last one if it never does."""
    fold = ForecastFold(FITNESS, constants=constants)
    for epoch, (signals, record) in enumerate(zip(curve.signals, curve.record), start=1):
        if signals and not record and max(map(fold.gain, signals)) < tolerance:
            return epoch
    return len(curve.fitness)


def power_law(x: np.ndarray, end: float, gap: float, rate: float) -> np.ndarray:
    return end - gap * x**-rate


def exponential(x: np.ndarray, end: float, gap: float, rate: float) -> np.ndarray:
    return end - gap * np.exp(-rate * x)


FAMILIES = {power_law: ((0.7, 0.7, 0.5), (0.01, 3.0)), exponential: ((0.7, 0.7, 0.05), (1e-4, 1.0))}
"""The initial parameters of each fit, and the bounds of its rate."""


def gains_by_family(curve: Curve, every: int = 3) -> dict[int, float]:
    """Return the expected gain by a parametric learning curve, fitted anew after every third epoch."""
    gains: dict[int, float] = {}
    start = {family: begin for family, (begin, _) in FAMILIES.items()}
    for epoch in range(every, len(curve.signals) + 1, every):
        known = np.isfinite(curve.fitness[:epoch])
        x, y = np.arange(1.0, epoch + 1)[known], curve.fitness[:epoch][known]
        best = None
        for family, (_, (low, high)) in FAMILIES.items() if curve.signals[epoch - 1] else ():
            bounds = ((-1, 0, low), (3, 5, high))
            try:
                start[family], _ = curve_fit(family, x, y, p0=start[family], bounds=bounds, max_nfev=200)
            except RuntimeError:  # no convergence
                continue
            error = y - family(x, *start[family])
            if best is None or error @ error < best[0]:
                best = error @ error, family, error
        if best is not None:
            signals = curve.signals[epoch - 1][0]
            noise = max(1e-6, float(np.sqrt((best[2][-max(6, len(y) // 4) :] ** 2).mean())))
            end = float(best[1](np.array(float(signals.planned)), *start[best[1]]))
            center = end + Constants.records * noise * math.sqrt(2 * math.log(signals.remaining))
            gains[epoch] = expected_excess(center, noise, signals.best) / signals.progress
    return gains


def by_family(curves: list[Curve]) -> dict[float, np.ndarray]:
    """Return what parametric learning curves save and lose in each run, by tolerance."""
    known = [gains_by_family(curve) for curve in curves]
    results = {}
    for tolerance in TOLERANCES:
        epochs = [
            next((e for e, gain in gains.items() if gain < tolerance and not curve.record[e - 1]), len(curve.scores))
            for curve, gains in zip(curves, known)
        ]
        results[tolerance] = np.array([cost(curve, epoch) for curve, epoch in zip(curves, epochs)])
    return results


def cost(curve: Curve, epoch: int) -> tuple[float, float]:
    """Return the share of a run that a stop after an epoch saves, and what it loses."""
    return 1 - epoch / len(curve.scores), float(curve.scores.max() - curve.scores[:epoch].max())


def outcome(curve: Curve, constants: Constants, tolerance: float) -> tuple[float, float]:
    return cost(curve, stop_epoch(curve, constants, tolerance))


def unseen(curves: list[Curve]) -> dict[float, np.ndarray]:
    """Return saved and lost of each run, with constants fitted without its repository, by tolerance."""
    results: dict[float, list[tuple[float, float]]] = {tolerance: [] for tolerance in TOLERANCES}
    owners = sorted({curve.owner for curve in curves})
    for partition in range(PARTITIONS):
        order = np.random.default_rng(partition).permutation(len(owners))
        fold_of = {owners[owner]: place % FOLDS for place, owner in enumerate(order)}
        for fold in range(FOLDS):
            constants = fit([curve for curve in curves if fold_of[curve.owner] != fold])
            for curve in curves:
                if fold_of[curve.owner] == fold:
                    for tolerance in TOLERANCES:
                        results[tolerance].append(outcome(curve, constants, tolerance))
    return {tolerance: np.array(values) for tolerance, values in results.items()}


def table(title: str, results: dict[float, np.ndarray]) -> None:
    print(f"\n{title}\n\n| tolerance | saved | mean loss | losing > 0.005 | > 0.01 |\n| --- | --- | --- | --- | --- |")
    for tolerance, values in results.items():
        saved, lost = values.T
        print(
            f"| {tolerance:g} | {saved.mean():.1%} | {lost.mean():.4f} | {(lost > 0.005).mean():.1%} | "
            f"{(lost > 0.01).mean():.1%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("YOLO_CB_CURVES"))
    folder = parser.parse_args().folder
    if folder is None:
        parser.error("name a FOLDER of runs, or set YOLO_CB_CURVES")
    curves = read_curves(Path(folder))
    print(f"{len(curves)} runs of {len({curve.owner for curve in curves})} repositories")
    print("fitted to all: ", fit(curves))
    print("in the package:", Constants())
    own = {t: np.array([outcome(curve, Constants(), t) for curve in curves]) for t in TOLERANCES}
    table("The constants of the package", own)
    table(f"On repositories that were left out of the fit ({PARTITIONS} x {FOLDS} folds)", unseen(curves))
    table("Parametric learning curves instead", by_family(curves))
    spread = np.random.default_rng(0)
    owners = sorted({curve.owner for curve in curves})
    of_owner = {name: [i for i, curve in enumerate(curves) if curve.owner == name] for name in owners}
    values = own[0.015]
    means = []
    for _ in range(2000):
        chosen = [i for name in spread.choice(owners, len(owners)) for i in of_owner[name]]
        means.append(values[chosen].mean(axis=0))
    low, high = np.percentile(means, [5, 95], axis=0)
    print(
        f"\nRepositories resampled 2,000 times, tolerance 0.015: saved {low[0]:.1%} to {high[0]:.1%}, "
        f"lost {low[1]:.4f} to {high[1]:.4f} (5 % to 95 %)"
    )


if __name__ == "__main__":
    main()
