"""The report of a replay: data frames, a plot, files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_callbacks.replaying.pareto import draw
from yolo_callbacks.replaying.summary import DECISION_COLUMNS, ReplaySummary
from yolo_callbacks.replaying.text import as_text
from yolo_callbacks.support import storage
from yolo_callbacks.support.numbers import finite_or_none

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class ReplayReport(ReplaySummary):
    """What rules would have done to logged runs.

    - **score**: the mean of a model's mAP50-95 columns (box, mask, pose; YOLOv5's
      `metrics/mAP_0.5:0.95`), the top-1 accuracy of a classifier, mIoU, or delta1; `fitness` if it has none of these.
      The rules themselves use what they use live: `fitness` as Ultralytics computes it.
    - **saved**: the logged epochs after the stop, as a share of all logged epochs.
    - **lost**: the best score of the whole run minus the best one up to the stop; never negative, and 0 without a stop.
    - The two **oracles** are hindsight baselines: one stops at the best epoch, one at the first within 0.005 of it.

    A stop changes nothing before it, so it is replayed exactly. A learning rate, a frozen layer or an earlier end
    changes the curve itself: the report names the epochs in which that would have happened; the result is unknown.

    Attributes:
        outcomes: What each rule would have done to each run.
        skipped: What was not replayed, and why.
        runs: Number of runs that were replayed.
        unknown_arguments: How many of them have no `args.yaml`: for these, the planned epochs are the logged ones, and
            everything else is Ultralytics' default.
        findings: By run, what limited it, if `SystemMonitor` has measured it.
    """

    @property
    def table(self) -> pd.DataFrame:
        """One row per rule and run."""
        return _frame(self.run_rows())

    @property
    def summary(self) -> pd.DataFrame:
        """One row per rule."""
        frame: pd.DataFrame = _frame(self.rule_rows()).set_index("rule")
        return frame

    @property
    def decisions(self) -> pd.DataFrame:
        """One row per decision that would have changed a training."""
        return _frame(self.decision_rows(), DECISION_COLUMNS)

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Plot what is saved against what is lost, one point per rule, to a PNG, SVG or PDF, by the suffix of the path.

        An existing file is replaced.
        """
        target = Path(path)
        figure = draw(self)
        with storage.replacing(target) as temporary:
            figure.savefig(temporary, format=target.suffix[1:] or "png")
        return target

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `summary.csv`, `runs.csv`, `decisions.csv`, `report.json` and `pareto.png`.

        Args:
            folder: Where to. An existing folder is kept: the files go to `<folder>-2`, and so on.

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
            **({"findings": {run: list(found) for run, found in self.findings.items()}} if self.findings else {}),
        }

    def __repr__(self) -> str:
        return f"ReplayReport({self.runs} run{'s' * (self.runs != 1)}, {', '.join(self.rules)})"

    def __str__(self) -> str:
        return as_text(self)


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
    """Return a row with NaN and infinities as None, for strict JSON."""
    return {key: finite_or_none(value) if isinstance(value, float) else value for key, value in row.items()}
