"""A replay in the terminal: the rules, the notes, and each run if requested."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yolo_callbacks.replaying.outcome import Outcome
from yolo_callbacks.replaying.summary import LARGE_LOSS, SMALL_LOSS, ReplaySummary, conclusion, in_words
from yolo_callbacks.reporting.summary import literal

_WIDE, _MAX_WIDTH = 110, 150  # characters
_MAX_LISTED = 10  # shown without details


def as_text(report: ReplaySummary) -> str:
    """Return the rules and the notes as plain text."""
    text = io.StringIO()
    width = min(shutil.get_terminal_size((120, 24)).columns, _MAX_WIDTH)
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
            console.print(literal(f"\n{rule}", "bold"))
            console.print(_runs(report.of(rule)))
        console.print()
    console.print(_headline(report), soft_wrap=True)
    console.print(_rules(report, console.width))
    for note in notes(report):
        console.print(literal(note), style="dim")
    limited = [f"{run}: {message}" for run, messages in report.findings.items() for message in messages]
    skipped = [str(item) for item in report.skipped]
    _show_list(console, "What limited the runs:", limited, details)
    _show_list(console, f"Not replayed: {len(skipped)}", skipped, details)
    console.print()
    console.print(literal(conclusion(report)))


def _show_list(console: Console, title: str, lines: Sequence[str], details: bool) -> None:
    """Print lines under a title, only the first of them unless `details`."""
    if lines:
        head, _, rest = title.partition(":")
        console.print(f"\n[bold yellow]{head}:[/]{rest}", highlight=False)
        for line in lines[: len(lines) if details else _MAX_LISTED]:
            console.print(literal(f"  {line}"), soft_wrap=True)
        if len(lines) > _MAX_LISTED and not details:
            console.print(f"  and {len(lines) - _MAX_LISTED} more (shown with --details)", highlight=False)


def notes(report: ReplaySummary) -> Iterator[str]:
    """Yield what a reader must know to read the tables correctly."""
    rows = report.rule_rows()
    yield (
        "saved: epochs after the stop, as a share of the logged ones, mean over the runs. lost: best score of the run "
        "minus the best up to the stop; mean, median, share of the runs that lose more than 0.005 and 0.01, worst. "
        "score: mean mAP50-95 of the heads, or top-1 accuracy."
    )
    if any(row["validations_skipped"] for row in rows):
        yield (
            "no val: epochs without validation, skipped or after the stop, as a share of the logged ones. lost counts "
            "what a skipped validation would have found. The hours do not count what the skipped ones took."
        )
    timed = {row["runs_with_hours"] for row in rows} - {0}
    if any(number < report.runs for number in timed):
        yield f"hours: from the runs that log the time, {max(timed)} of {report.runs}."
    altered = [row for row in rows if row["altered"]]
    if altered:
        which = ", ".join(f"{row['rule']} in {row['altered']} of {row['runs']}" for row in altered)
        yield (
            f"* would have changed more than the end of the training ({which}). A changed learning rate, frozen layers "
            "or an end brought forward lead to a different curve, which cannot be replayed: the figures of these rules "
            "assume that the logged curve would have stayed the same."
        )
    oracles = [row["runs"] for row in rows if row["oracle"]]
    flat = report.runs - max(oracles, default=0)
    if flat > 0:
        yield f"oracles: without the runs whose score stays at 0, {flat} of {report.runs}."
    if any(row["lost_unknown"] for row in rows):
        yield "If the end is brought forward (finish), what is saved is known, but not what is lost."
    without = report.unknown_arguments
    if without:
        yield (
            f"runs without an args.yaml: {without} of {report.runs}. Their planned epochs are taken to be the logged "
            "ones, everything else to be Ultralytics' defaults."
        )


def _headline(report: ReplaySummary) -> str:
    runs = report.of(report.rules[0]) if report.outcomes else []
    return f"[bold]{report.runs} run{'s' * (report.runs != 1)}[/bold], {sum(o.epochs for o in runs):,} epochs"


def _rules(report: ReplaySummary, width: int) -> Table:
    rows = report.rule_rows()
    timed, wide = any(row["runs_with_hours"] for row in rows), width >= _WIDE
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), header_style="bold")
    table.add_column("rule", vertical="bottom", overflow="fold")
    names = ["saved", "lost", "median", f"> {SMALL_LOSS:g}", f"> {LARGE_LOSS:g}", "worst", "stops", "epochs\nsaved"]
    skips = any(row["validations_skipped"] for row in rows)
    for name in [*names, *(["hours\nsaved"] if timed else []), *(["no val"] if skips else [])]:
        table.add_column(name, justify="right", vertical="bottom", no_wrap=True)
    if wide:
        table.add_column("worst run", vertical="bottom", overflow="fold")
    for row in rows:
        cells: list[str | Text] = [
            literal(row["rule"] + "*" * bool(row["altered"])),
            f"{row['saved_mean']:.1%}",
            _or_dash(row["lost_mean"], ".4f"),
            _or_dash(row["lost_median"], ".4f"),
            _or_dash(row[f"lost_over_{SMALL_LOSS:g}"], ".0%"),
            _or_dash(row[f"lost_over_{LARGE_LOSS:g}"], ".0%"),
            _or_dash(row["lost_max"], ".4f"),
            f"{row['stopped']:,}",
            f"{row['epochs_saved']:,}",
            *([_or_dash(row["hours_saved"], ".1f")] if timed else []),
            *([f"{row['validations_saved_mean']:.1%}"] if skips else []),
            *([literal(row["worst_run"] or "-")] if wide else []),
        ]
        table.add_row(*cells, style="dim" if row["oracle"] else None)
    return table


def _runs(outcomes: list[Outcome]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold", ratio=2)
    for name in ("epochs", "stop", "saved", "hours saved", "best", "at", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why, and what else it would have done", overflow="fold", ratio=3)
    for item in outcomes:
        why = "; ".join(filter(None, [item.message.removeprefix("stop, "), in_words(item.changes)]))
        table.add_row(
            literal(item.run),
            f"{item.epochs} of {item.planned_epochs}",
            _or_dash(item.stop_epoch, "d"),
            f"{item.saved:.1%}",
            _or_dash(item.hours_saved, ".2f"),
            f"{item.best:.4f}",
            _or_dash(item.best_epoch, "d"),
            _or_dash(item.lost, ".4f"),
            literal(why),
        )
    return table


def _or_dash(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
