"""`yolo-cb runs`: the runs of a tree. Neither torch nor Ultralytics is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yolo_callbacks.cli.output import OK, USAGE, age, fail, note, plain_table, print_json, screen, size
from yolo_callbacks.inspecting.overview import Overview, common_metric, find_runs, overview_of
from yolo_callbacks.inspecting.settings import runs_dir
from yolo_callbacks.inspecting.state import State
from yolo_callbacks.reporting.summary import literal
from yolo_callbacks.support.numbers import duration

_STYLES = {
    State.RUNNING: "cyan",
    State.STALLED: "bold yellow",
    State.FINISHED: "green",
    State.STOPPED: "green",
    State.PREEMPTED: "yellow",
    State.INTERRUPTED: "yellow",
    State.FAILED: "bold red",
    State.KILLED: "red",
}
_FOR_REASONS = 110  # characters of a line that has room for them
_NUMBERS = 90  # characters of the other columns
_RESUMABLE = (State.KILLED, State.INTERRUPTED, State.PREEMPTED, State.FAILED)


def runs_command(folder: Path | None, as_json: bool) -> int:
    """List the runs of a tree, newest first, and return the exit code."""
    root = folder or runs_dir()
    if not root.is_dir():
        return fail(f"{root} {'is not a directory' if root.exists() else 'does not exist'}: name the directory of runs")
    found = [overview_of(run, root) for run in find_runs(root)]
    found.sort(key=lambda run: run.changed, reverse=True)
    if as_json:
        print_json([run.to_json() for run in found])
        return OK
    if not found:
        return fail(f"{root} contains no run: name a directory of runs", USAGE)
    show(found, root, screen())
    return OK


def show(found: Sequence[Overview], root: Path, console: Console) -> None:
    """Print the table and what follows from it."""
    console.print(_table(found, console.width))
    counted = Counter(run.state.value for run in found)
    states = ", ".join(f"{number} {state}" for state, number in counted.most_common())
    console.print()
    note(console, f"{len(found)} run{'s' * (len(found) != 1)} in {root}: {states}. {size(sum(r.size for r in found))}.")
    lost = next((run for run in found if run.state in _RESUMABLE and run.epochs), None)
    if lost is not None and lost.ours:
        console.print(literal(f"yolo-cb train --resume {lost.folder}", "bold", "Resume with:"), soft_wrap=True)


def _table(found: Sequence[Overview], width: int) -> Table:
    metric, reasons = common_metric(found), width >= _FOR_REASONS
    mixed = not metric and any(run.metric for run in found)
    table = plain_table()
    table.add_column("run", overflow="fold", max_width=max(24, width - _NUMBERS + 4) if reasons else None)
    table.add_column("state", no_wrap=True)
    for head in (metric or "best", "at", "epochs", "took" if reasons else "", "age", "size"):
        if head:
            table.add_column(head, justify="right", no_wrap=True)
    if mixed:
        table.add_column("metric", no_wrap=True)
    if reasons:
        table.add_column("why", overflow="ellipsis", no_wrap=True, style="dim", max_width=max(20, width - _NUMBERS))
    for run in found:
        planned = f"/{run.planned}" if run.planned else ""
        cells: list[str | Text] = [
            literal(run.name),
            literal(run.state.value, _STYLES[run.state]),
            "-" if run.best is None else f"{run.best:.4f}",
            "-" if run.best_epoch is None else str(run.best_epoch),
            f"{run.epochs}{planned}",
            *([("-" if run.seconds is None else duration(run.seconds))] if reasons else []),
            age(run.age),
            size(run.size),
            *([literal(run.metric or "-")] if mixed else []),
            *([literal(_why(run))] if reasons else []),
        ]
        table.add_row(*cells)
    return table


def _why(run: Overview) -> str:
    """Return what the state does not say by itself."""
    if run.eta is not None:
        return f"about {duration(run.eta)} left"
    return "" if run.state in (State.RUNNING, State.FINISHED) else run.why.splitlines()[0]
