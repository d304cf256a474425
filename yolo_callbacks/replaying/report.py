"""What came of a replay: tables, a summary a rule, a picture, files."""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_callbacks.replaying.outcome import Change, Outcome
from yolo_callbacks.replaying.search import Skipped
from yolo_callbacks.support import storage

if TYPE_CHECKING:
    import pandas as pd

MUCH, LITTLE = 0.01, 0.005
"""Losses of the score that are counted."""


@dataclass(frozen=True, repr=False)
class ReplayReport:
    """What rules would have done to logged runs.

    - **score**: what a model is judged by: the mean of its mAP50-95 columns (box, mask, pose; YOLOv5's
      `metrics/mAP_0.5:0.95`), the top-1 accuracy of a classifier, mIoU, delta1; `fitness` where there is none of them.
      The rules themselves look at what they would look at live: `fitness` as Ultralytics computes it.
    - **saved**: the logged epochs after the stop, as a share of all logged epochs.
    - **lost**: the best score of the whole run less the best one up to the stop; never negative, and 0 without a stop.
    - The two **oracles** know the whole run: one stops at its best epoch, one at the first that is within 0.005 of it.

    A stop changes nothing before it, so that it can be replayed to the digit. A learning rate, a frozen layer or an end
    that is brought forward changes the curve itself: the report says in which epochs that would have happened, and
    what it leads to cannot be known.

    Attributes:
        outcomes: What each rule would have done to each run.
        skipped: What was not replayed, and why.
        runs: Number of runs that were replayed.
        unknown_arguments: How many of them have no `args.yaml`: for these the planned epochs are the logged ones, and
            all else is Ultralytics' default.
    """

    outcomes: Sequence[Outcome]
    skipped: Sequence[Skipped] = ()
    runs: int = 0
    unknown_arguments: int = 0

    @property
    def rules(self) -> list[str]:
        """Names of the rules in order, the oracles last."""
        ordered = sorted(self.outcomes, key=lambda outcome: outcome.oracle)
        return list(dict.fromkeys(outcome.rule for outcome in ordered))

    @property
    def table(self) -> pd.DataFrame:
        """One row a rule and run."""
        return _frame(self.run_rows())

    @property
    def summary(self) -> pd.DataFrame:
        """One row a rule."""
        frame: pd.DataFrame = _frame(self.rule_rows()).set_index("rule")
        return frame

    @property
    def decisions(self) -> pd.DataFrame:
        """Everything that would have changed a training: rule, run, epoch, kind, message."""
        return _frame(self.decision_rows(), DECISION_COLUMNS)

    def of(self, rule: str) -> list[Outcome]:
        """Return the outcomes of a rule."""
        return [outcome for outcome in self.outcomes if outcome.rule == rule]

    def run_rows(self) -> list[dict[str, Any]]:
        """Return the rows of `table`."""
        return [_run_row(outcome) for rule in self.rules for outcome in self.of(rule)]

    def rule_rows(self) -> list[dict[str, Any]]:
        """Return the rows of `summary`."""
        return [summarize(rule, self.of(rule)) for rule in self.rules]

    def decision_rows(self) -> list[dict[str, Any]]:
        """Return the rows of `decisions`."""
        return [
            dict(zip(DECISION_COLUMNS, (o.rule, o.run, d.epoch, d.kind, d.message, change.in_the_run)))
            for o in self.outcomes
            for change in o.changes
            for d in (change.decision,)
        ]

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw what is saved against what is lost, one point a rule, to a picture (PNG, SVG or PDF, by its name).

        An existing file is replaced.
        """
        from yolo_callbacks.replaying.pareto import draw

        target = Path(path)
        figure = draw(self)
        with storage.replacing(target) as temporary:
            figure.savefig(temporary, format=target.suffix[1:] or "png")
        return target

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `summary.csv`, `runs.csv`, `decisions.csv`, `report.json` and `pareto.png`.

        Args:
            folder: Where to. One that is there already stays as it is: the files go to `<folder>-2`, and so on.

        Returns:
            The folder that was written.
        """
        target = storage.new_folder(Path(folder))
        storage.write_text(target / "summary.csv", _csv(self.rule_rows()))
        storage.write_text(target / "runs.csv", _csv(self.run_rows()))
        storage.write_text(target / "decisions.csv", _csv(self.decision_rows(), DECISION_COLUMNS))
        storage.write_json(target / "report.json", self.to_json())
        self.plot(target / "pareto.png")
        return target

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as plain data."""
        return {
            "format": 1,
            "runs": self.runs,
            "unknown_arguments": self.unknown_arguments,
            "skipped": [vars(item) for item in self.skipped],
            "summary": [_plain(row) for row in self.rule_rows()],
            "table": [_plain(row) for row in self.run_rows()],
            "decisions": self.decision_rows(),
        }

    def __repr__(self) -> str:
        return f"ReplayReport({self.runs} runs, {', '.join(self.rules)})"

    def __str__(self) -> str:
        from yolo_callbacks.replaying.text import as_text

        return as_text(self)


DECISION_COLUMNS = ("rule", "run", "epoch", "kind", "message", "in_the_run")


def summarize(rule: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what a rule has saved and lost over runs."""
    losses = {outcome.run: outcome.lost for outcome in outcomes if outcome.lost is not None}
    hours = [outcome.hours_saved for outcome in outcomes if outcome.hours_saved is not None]
    worst = max(losses, key=lambda run: losses[run]) if any(losses.values()) else None
    return {
        "rule": rule,
        "runs": len(outcomes),
        "stopped": sum(outcome.stop_epoch is not None for outcome in outcomes),
        "saved_mean": statistics.fmean(outcome.saved for outcome in outcomes),
        "saved_median": statistics.median(outcome.saved for outcome in outcomes),
        "lost_mean": statistics.fmean(losses.values()) if losses else None,
        "lost_median": statistics.median(losses.values()) if losses else None,
        f"lost_over_{LITTLE:g}": _share_over(LITTLE, losses.values()),
        f"lost_over_{MUCH:g}": _share_over(MUCH, losses.values()),
        "lost_max": max(losses.values(), default=None),
        "worst_run": worst,
        "lost_unknown": len(outcomes) - len(losses),
        "epochs_saved": sum(outcome.epochs_saved for outcome in outcomes),
        "hours_saved": sum(hours) if hours else None,
        "runs_with_hours": len(hours),
        "altered": sum(outcome.altered for outcome in outcomes),
        "oracle": all(outcome.oracle for outcome in outcomes),
    }


def in_words(changes: Iterable[Change]) -> str:
    """Return what would have been changed, and in which epochs, as in `"lr factor 0.1 @ 31, 52"`."""
    epochs: dict[str, list[int]] = {}
    for change in changes:
        decision = change.decision
        name = (decision.label or decision.kind.replace("_", " ")) + (" (as it was)" if change.in_the_run else "")
        epochs.setdefault(name, []).append(decision.epoch)
    return "; ".join(f"{name} @ {_ranges(numbers)}" for name, numbers in epochs.items())


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers in order with their runs drawn together: 1, 2, 3, 7 is `1-3, 7`."""
    distance = sorted((number, number - index) for index, number in enumerate(numbers))
    runs = [[number for number, _ in group] for _, group in groupby(distance, key=lambda pair: pair[1])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _share_over(limit: float, losses: Iterable[float]) -> float | None:
    over = [loss > limit for loss in losses]
    return sum(over) / len(over) if over else None


def _run_row(outcome: Outcome) -> dict[str, Any]:
    row = {name: value for name, value in vars(outcome).items() if name not in ("changes", "oracle")}
    return {**row, "changes": in_words(outcome.changes)}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([dict(row) for row in rows], columns=list(columns or rows[0]))
    whole = [name for name in ("stop_epoch", "best_epoch") if name in frame]
    numbers = [name for name in frame if name in ("hours_saved", "lost", "lost_mean", "lost_median", "lost_max")]
    typed: pd.DataFrame = frame.astype({**dict.fromkeys(whole, "Int64"), **dict.fromkeys(numbers, "float64")})
    return typed


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as strict JSON can hold it."""
    unknown = (name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value))
    return {**row, **dict.fromkeys(unknown)}
