"""A replay in the terminal: the rules first, then what has to be said, and each run where that is asked for."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yolo_callbacks.replaying.outcome import Outcome
from yolo_callbacks.replaying.summary import LITTLE, MUCH, ReplaySummary, in_words
from yolo_callbacks.reporting.summary import plainly

_WIDE, _WIDEST = 110, 150  # characters
_NAMED = 10  # files that were skipped, by name


def as_text(report: ReplaySummary) -> str:
    """Return the rules and the notes as plain text."""
    text = io.StringIO()
    width = min(shutil.get_terminal_size((120, 24)).columns, _WIDEST)
    show(report, Console(file=text, width=width, color_system=None))
    return text.getvalue().rstrip("\n")


def show(report: ReplaySummary, console: Console, *, details: bool = False) -> None:
    """Print a report.

    Args:
        report: What to print.
        console: Where to.
        details: Whether to print each run as well.
    """
    if details:
        for rule in report.rules:
            console.print(plainly(f"\n{rule}", "bold"))
            console.print(_runs(report.of(rule)))
        console.print()
    console.print(_headline(report), soft_wrap=True)
    console.print(_rules(report, console.width))
    for note in notes(report):
        console.print(plainly(note), style="dim")
    skipped = [str(item) for item in report.skipped]
    if skipped:
        console.print(f"\n[bold yellow]Not replayed:[/] {len(skipped)}", highlight=False)
        for line in skipped[: len(skipped) if details else _NAMED]:
            console.print(plainly(f"  {line}"), soft_wrap=True)
        if len(skipped) > _NAMED and not details:
            console.print(f"  and {len(skipped) - _NAMED} more (--details names them)", highlight=False)


def notes(report: ReplaySummary) -> Iterator[str]:
    """Give the sentences without which the tables could be misread."""
    rows = report.rule_rows()
    yield (
        "saved: epochs after the stop, as a share of the logged ones, mean over the runs. lost: best score of the run "
        "less the best up to the stop; mean, median, share of the runs that lose more than 0.005 and 0.01, worst. "
        "score: mean mAP50-95 of the heads, or top-1 accuracy."
    )
    timed = {row["runs_with_hours"] for row in rows} - {0}
    if any(number < report.runs for number in timed):
        yield f"hours: of the {max(timed)} runs that log the time."
    altered = [row for row in rows if row["altered"]]
    if altered:
        which = ", ".join(f"{row['rule']} in {row['altered']} of {row['runs']}" for row in altered)
        yield (
            f"* would have changed more than the end of the training ({which}). The learning rate, frozen layers and "
            "an end that is brought forward make another curve than the logged one, which cannot be replayed: what is "
            "said of these rules holds as far as that curve would have been the same."
        )
    if any(row["lost_unknown"] for row in rows):
        yield "Where the end is brought forward (finish), it is known what is saved, but not what is lost."
    without = report.unknown_arguments
    if without:
        yield (
            f"{without} of {report.runs} runs have no arguments on record (args.yaml): the epochs that they planned "
            "are taken to be the logged ones, and all else Ultralytics' defaults."
        )


def _headline(report: ReplaySummary) -> str:
    runs = report.of(report.rules[0]) if report.outcomes else []
    return f"[bold]{report.runs} run{'s' * (report.runs != 1)}[/bold], {sum(o.epochs for o in runs):,} epochs"


def _rules(report: ReplaySummary, width: int) -> Table:
    rows = report.rule_rows()
    timed, wide = any(row["runs_with_hours"] for row in rows), width >= _WIDE
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), header_style="bold")
    table.add_column("rule", overflow="fold")
    names = ["saved", "lost", "median", f"> {LITTLE:g}", f"> {MUCH:g}", "worst", "stops", "epochs"]
    for name in [*names, *(["hours"] if timed else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("worst run", overflow="fold")
    for row in rows:
        cells: list[str | Text] = [
            plainly(row["rule"] + "*" * bool(row["altered"])),
            f"{row['saved_mean']:.1%}",
            _or_none(row["lost_mean"], ".4f"),
            _or_none(row["lost_median"], ".4f"),
            _or_none(row[f"lost_over_{LITTLE:g}"], ".0%"),
            _or_none(row[f"lost_over_{MUCH:g}"], ".0%"),
            _or_none(row["lost_max"], ".4f"),
            f"{row['stopped']:,}",
            f"{row['epochs_saved']:,}",
            *([_or_none(row["hours_saved"], ".1f")] if timed else []),
            *([plainly(row["worst_run"] or "-")] if wide else []),
        ]
        table.add_row(*cells, style="dim" if row["oracle"] else None)
    return table


def _runs(outcomes: list[Outcome]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold", ratio=2)
    for name in ("epochs", "stop", "saved", "hours", "best", "at", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why, and what else it would have done", overflow="fold", ratio=3)
    for item in outcomes:
        why = "; ".join(filter(None, [item.message.removeprefix("stop, "), in_words(item.changes)]))
        table.add_row(
            plainly(item.run),
            f"{item.epochs} of {item.planned_epochs}",
            _or_none(item.stop_epoch, "d"),
            f"{item.saved:.1%}",
            _or_none(item.hours_saved, ".2f"),
            f"{item.best:.4f}",
            _or_none(item.best_epoch, "d"),
            _or_none(item.lost, ".4f"),
            plainly(why),
        )
    return table


def _or_none(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
