"""What rules would have saved and lost on logged runs: rows per rule, per run and per decision. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from yolo_callbacks.replaying.outcome import Change, Outcome
from yolo_callbacks.replaying.search import Skipped

LARGE_LOSS, SMALL_LOSS = 0.01, 0.005
"""Thresholds for a large and a small loss of the score."""

DECISION_COLUMNS = ("rule", "run", "epoch", "kind", "message", "in_the_run")


@dataclass(frozen=True, repr=False)
class ReplaySummary:
    """Outcomes as rows. `ReplayReport` explains the attributes, and adds files and the plot."""

    outcomes: Sequence[Outcome]
    skipped: Sequence[Skipped] = ()
    runs: int = 0
    unknown_arguments: int = 0
    findings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def rules(self) -> list[str]:
        """Names of the rules in order, the oracles last."""
        ordered = sorted(self.outcomes, key=lambda outcome: outcome.oracle)
        return list(dict.fromkeys(outcome.rule for outcome in ordered))

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


def conclusion(report: ReplaySummary) -> str:
    """Return what follows from a replay, in one sentence."""
    rows = [row for row in report.rule_rows() if not row["oracle"] and row["lost_mean"] is not None]
    safe = [row for row in rows if row["lost_mean"] <= SMALL_LOSS and row["saved_mean"] > 0]
    where = f"On {'these' if report.runs > 1 else 'this'} {f'{report.runs} runs' if report.runs > 1 else 'run'}"
    if safe:
        best = max(safe, key=lambda row: (row["saved_mean"], -row["lost_mean"]))
        return (
            f"{where}, '{best['rule']}' saves the most of the rules that lose at most {SMALL_LOSS:g} on average: "
            f"{best['saved_mean']:.1%} of the epochs, at a mean loss of {best['lost_mean']:.4f}."
        )
    stopping = [row for row in rows if row["saved_mean"] > 0]
    if not stopping:
        return f"{where}, no rule would have saved an epoch."
    least = min(stopping, key=lambda row: row["lost_mean"])
    return (
        f"{where}, every rule that saves anything loses more than {SMALL_LOSS:g} on average; '{least['rule']}' loses "
        f"the least, {least['lost_mean']:.4f}, and saves {least['saved_mean']:.1%} of the epochs."
    )


def summarize(rule: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what a rule saves and loses over runs."""
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
        f"lost_over_{SMALL_LOSS:g}": _share_over(SMALL_LOSS, losses.values()),
        f"lost_over_{LARGE_LOSS:g}": _share_over(LARGE_LOSS, losses.values()),
        "lost_max": max(losses.values(), default=None),
        "worst_run": worst,
        "lost_unknown": len(outcomes) - len(losses),
        "epochs_saved": sum(outcome.epochs_saved for outcome in outcomes),
        "hours_saved": sum(hours) if hours else None,
        "runs_with_hours": len(hours),
        "validations_saved_mean": statistics.fmean(outcome.validations_saved for outcome in outcomes),
        "validations_skipped": sum(outcome.validations_skipped for outcome in outcomes),
        "altered": sum(outcome.altered for outcome in outcomes),
        "oracle": all(outcome.oracle for outcome in outcomes),
    }


def in_words(changes: Iterable[Change]) -> str:
    """Return what would have changed, and in which epochs, such as `"lr factor 0.1 @ 31, 52"`."""
    epochs: dict[str, list[int]] = {}
    for change in changes:
        decision = change.decision
        name = (decision.label or decision.kind.replace("_", " ")) + (" (as in the run)" if change.in_the_run else "")
        epochs.setdefault(name, []).append(decision.epoch)
    return "; ".join(f"{name} @ {_ranges(numbers)}" for name, numbers in epochs.items())


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers with consecutive ones joined: 1, 2, 3, 7 is `1-3, 7`."""
    distance = sorted((number, number - index) for index, number in enumerate(numbers))
    runs = [[number for number, _ in group] for _, group in groupby(distance, key=lambda pair: pair[1])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _share_over(limit: float, losses: Iterable[float]) -> float | None:
    over = [loss > limit for loss in losses]
    return sum(over) / len(over) if over else None


def _run_row(outcome: Outcome) -> dict[str, Any]:
    row = {name: value for name, value in vars(outcome).items() if name not in ("changes", "oracle")}
    return {**row, "changes": in_words(outcome.changes)}
