"""What stopping rules save and lose on logged runs, plus Ultralytics' own patience and two hindsight baselines.

    python benchmarks/replay.py [FOLDER] [--png FILE]
    python benchmarks/replay.py --speed

FOLDER is a tree of runs, each with its results.csv (and args.yaml, if any). Default: the environment variable
YOLO_CB_CURVES. If it has a SOURCES.csv with the columns `run` and `repository`, the figures are also given with each
repository counting once, because the runs of one project are much alike. `--speed` times 1,000 synthetic runs of 300
epochs instead.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import yolo_callbacks as ycb
from yolo_callbacks.replaying.report import ReplayReport

PATIENCES = (10, 20, 30, 50, 75, 100)
SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
AUTO = [{"tolerance": tolerance} for tolerance in (0.005, 0.01, 0.015, 0.02, 0.03, 0.05)]
"""Arguments of `EarlyStopping(patience="auto", ...)`, one row each."""

RUNS, EPOCHS = 1_000, 300  # of --speed


@dataclass(frozen=True)
class BestSoFar:
    """Ultralytics' own counter: the best fitness and its epoch. While the fitness is 0, every epoch is the best."""

    fitness: float = 0.0
    epoch: int = 0


@dataclass(frozen=True)
class PlainFold:
    """Source: `ultralytics.utils.torch_utils.EarlyStopping`."""

    def initial(self, plan):
        return BestSoFar()

    def step(self, state, record):
        fitness = record.metrics.get("fitness")
        if fitness is None or not (fitness > state.fitness or state.fitness == 0):
            return state
        return BestSoFar(fitness, record.epoch)


class PlainPatience(ycb.Callback):
    """Stops as Ultralytics' own `patience` does: epochs since the best, including warm-up and closed mosaic."""

    priority = ycb.Priority.DECIDE

    def __init__(self, patience):
        self.patience = patience

    def decide(self, history):
        if not history or "fitness" not in history[-1].metrics:
            return None
        patience = self.patience
        if isinstance(patience, float):
            patience = max(1, -int(-round(patience * history[-1].planned_epochs, 9) // 1))
        wait = history.epoch - history.fold(PlainFold()).epoch
        reason = ycb.StopReason.TRAINER_PATIENCE
        return ycb.Stop("patience ran out", history.epoch, reason=reason) if wait >= patience else None


def rules() -> dict[str, list[ycb.Callback]]:
    chosen: dict[str, list[ycb.Callback]] = {}
    for patience in (*PATIENCES, *SHARES):
        chosen[f"plain {patience}"] = [PlainPatience(patience)]
    for patience in (*PATIENCES, *SHARES):
        chosen[f"patience {patience}"] = [ycb.EarlyStopping(patience=patience)]
    return {**chosen, **auto_rules()}


def auto_rules() -> dict[str, list[ycb.Callback]]:
    def name(settings):
        return " ".join(["auto", *(f"{key}={value}" for key, value in settings.items())])

    return {name(settings): [ycb.EarlyStopping(patience="auto", **settings)] for settings in AUTO}


def repositories(folder: Path) -> dict[str, str]:
    """Return the repository of each run by name; empty without a SOURCES.csv."""
    file = folder / "SOURCES.csv"
    if not file.exists():
        return {}
    with open(file, encoding="utf-8", newline="") as lines:
        return {row["run"]: row["repository"] for row in csv.DictReader(lines)}


def row(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def print_rules(report: ReplayReport) -> None:
    """Print one line per rule, each run counting once."""
    head = [
        "rule",
        "saved",
        "lost",
        "lost, median",
        "> 0.005",
        "> 0.01",
        "worst",
        "stops",
        "epochs saved",
        "hours saved",
    ]
    print(row(head), row(["---"] + ["--:"] * (len(head) - 1)), sep="\n")
    for line in report.rule_rows():
        shares = (f"{line[name]:.0%}" for name in ("lost_over_0.005", "lost_over_0.01"))
        hours = line["hours_saved"]
        cells = [line["rule"], f"{line['saved_mean']:.1%}", f"{line['lost_mean']:.4f}", f"{line['lost_median']:.4f}"]
        cells += [*shares, f"{line['lost_max']:.4f}", f"{line['stopped']}", f"{line['epochs_saved']:,}"]
        print(row([*cells, "" if hours is None else f"{hours:.1f}"]))


def print_by_repository(report: ReplayReport, repository: dict[str, str]) -> None:
    """Print one line per rule, each repository counting once."""
    head = ["rule", "saved", "lost", "lost, median", "> 0.01", "worst repository"]
    print(row(head), row(["---"] + ["--:"] * (len(head) - 2) + ["---"]), sep="\n")
    for rule in report.rules:
        outcomes: dict[str, list] = {}
        for outcome in report.of(rule):
            outcomes.setdefault(repository.get(outcome.run, outcome.run), []).append(outcome)
        saved = [fmean(outcome.saved for outcome in group) for group in outcomes.values()]
        lost = {name: fmean(outcome.lost for outcome in group) for name, group in outcomes.items()}
        worst = max(lost, key=lost.get)
        over = fmean(value > 0.01 for value in lost.values())
        cells = [rule, f"{fmean(saved):.1%}", f"{fmean(lost.values()):.4f}", f"{median(lost.values()):.4f}"]
        print(row([*cells, f"{over:.0%}", f"{worst} ({lost[worst]:.4f})" if lost[worst] else ""]))


FAMILIES = {"plain epochs": "#7f7f7f", "plain share": "#ff7f0e", "auto": "#1f77b4"}


def family_of(rule: str) -> tuple[str, str] | None:
    """Return the family of a rule and its value in it; None for rules that are not drawn."""
    kind, _, value = rule.partition(" ")
    if kind == "plain":
        return ("plain share" if "." in value else "plain epochs"), value
    return ("auto", value.removeprefix("tolerance=")) if kind == "auto" else None


def draw(report: ReplayReport, png: Path) -> None:
    """Draw one line per family of rules. `patience` is omitted, because it coincides with `plain`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(9.0, 5.8), dpi=120, layout="constrained")
    axis = figure.subplots()
    rows = report.rule_rows()
    for family, color in FAMILIES.items():
        points = [(line["lost_mean"], line["saved_mean"], family_of(line["rule"])) for line in rows]
        points = sorted(point for point in points if point[2] and point[2][0] == family)
        axis.plot(*[[point[i] for point in points] for i in (0, 1)], "o-", color=color, label=family, markersize=5)
        for lost, saved, (_, value) in points:
            side = -1 if family == "auto" else 1
            axis.annotate(
                value,
                (lost, saved),
                textcoords="offset points",
                xytext=(7 * side, -3 - 4 * side),
                ha="right" if side < 0 else "left",
                color=color,
                fontsize=9,
            )
    for line in rows:
        if line["oracle"]:
            axis.plot(
                line["lost_mean"], line["saved_mean"], "*", markersize=13, color="#c99700", markeredgecolor="black"
            )
            place = (line["lost_mean"], line["saved_mean"])
            axis.annotate(line["rule"], place, textcoords="offset points", xytext=(9, 4), fontsize=9, color="#8a6800")
    axis.set_xscale("symlog", linthresh=0.01)
    axis.set_xticks(
        [0, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1], ["0", "", "0.005", "", "0.01", "0.02", "0.05", "0.1"]
    )
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel("lost: how much worse the best model is, mean over the runs (logarithmic from 0.01 on)")
    axis.set_ylabel("saved: share of the logged epochs, mean over the runs")
    axis.set_title(f"Stopping rules over {report.runs} runs", fontsize=11)
    axis.grid(True, alpha=0.25)
    axis.legend(loc="upper left")
    figure.savefig(png)


def compare(folder: Path, png: Path) -> None:
    start = time.process_time()
    report = ycb.replay(folder, rules())
    took = time.process_time() - start
    epochs = sum(outcome.epochs for outcome in report.of(report.rules[0]))
    print(f"{report.runs} runs, {epochs:,} epochs; {len(report.skipped)} not replayed; {took:.1f} s of one core\n")
    print("`plain`: epochs since the best, as Ultralytics counts. `patience`: `EarlyStopping(patience=...)`.\n")
    print_rules(report)
    repository = repositories(folder)
    known = {repository[outcome.run] for outcome in report.outcomes if outcome.run in repository}
    if known:
        print(f"\nEach of {len(known)} repositories counting once:\n")
        print_by_repository(report, repository)
    for item in report.skipped:
        print(f"\nNot replayed: {item}")
    draw(report, png)
    print(f"\n{png}")


def make_runs(folder: Path) -> None:
    """Write synthetic runs that rise, level off and jitter, each with an args.yaml as long as Ultralytics' own."""
    names = ["train/box_loss", "train/cls_loss", "train/dfl_loss", "metrics/precision(B)", "metrics/recall(B)"]
    names += ["metrics/mAP50(B)", "metrics/mAP50-95(B)", "val/box_loss", "val/cls_loss", "val/dfl_loss"]
    header = ",".join(["epoch", "time", *names, "lr/pg0", "lr/pg1", "lr/pg2"]) + "\n"
    arguments = {"task": "detect", "epochs": EPOCHS, "patience": 100, "close_mosaic": 10, "mosaic": 1.0, "lrf": 0.01}
    arguments |= {"warmup_epochs": 3.0, **{f"argument_{i}": i for i in range(100)}}
    text = "".join(f"{key}: {value}\n" for key, value in arguments.items())
    generator = random.Random(0)
    for number in range(RUNS):
        run = folder / f"run{number}"
        run.mkdir()
        (run / "args.yaml").write_text(text, encoding="utf-8")
        top, pace, noise = generator.uniform(0.2, 0.8), generator.uniform(10, 150), generator.uniform(0.001, 0.02)
        lines = [header]
        for epoch in range(1, EPOCHS + 1):
            score = max(0.0, top * (1 - 2.718 ** (-epoch / pace)) + generator.gauss(0, noise))
            rate = 0.01 * (1 - 0.99 * (epoch - 1) / EPOCHS)
            values = [epoch, 30.0 * epoch, *[2 - score] * 3, *[score] * 4, *[2.5 - score] * 3, *[rate] * 3]
            lines.append(",".join(f"{value:.6g}" for value in values) + "\n")
        (run / "results.csv").write_text("".join(lines), encoding="utf-8")


def measure_speed() -> None:
    patience = "10,20,50,0.3,auto"
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder))
        command = [sys.executable, "-m", "yolo_callbacks", "replay", folder, "--patience", patience]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print("\n".join(shown.splitlines()[:9]))
    print(f"\n{RUNS:,} runs of {EPOCHS} epochs, patience {patience}: {took:.1f} s, {cpu:.1f} s of CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("YOLO_CB_CURVES"))
    parser.add_argument("--png", type=Path, default=Path("replay.png"), help="where to save the plot")
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    if options.speed:
        measure_speed()
    elif options.folder is None:
        parser.error("name a FOLDER of runs, or set YOLO_CB_CURVES")
    else:
        compare(Path(options.folder), options.png)


if __name__ == "__main__":
    main()
