"""`yolo-cb compare`: what differs between runs. Neither torch nor Ultralytics is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from yolo_callbacks.cli.output import OK, USAGE, fail, note, plain_table, print_csv, print_json, screen, size
from yolo_callbacks.inspecting.comparison import ComparedRun, differences, read_compared, verdict
from yolo_callbacks.inspecting.overview import common_metric, find_runs
from yolo_callbacks.replaying.search import expanded
from yolo_callbacks.reporting.summary import literal
from yolo_callbacks.support.numbers import duration

_SIDE_BY_SIDE = 4  # runs that a table of settings has columns for
_LONGEST_VALUE = 60


def compare_command(paths: Sequence[str], as_json: bool, as_csv: bool) -> int:
    """Compare runs, and return the exit code."""
    if as_json and as_csv:
        return fail("--json and --csv exclude each other")
    folders: dict[Path, None] = {}
    for given in paths:
        found = [run for path in expanded(given) for run in find_runs(path)]
        if not found and not Path(given).exists():
            return fail(f"{given} does not exist")
        if not found:  # a glob of the shell takes anything
            note(Console(stderr=True), f"{given} contains no run")
        folders.update(dict.fromkeys(Path(os.path.abspath(run)) for run in found))  # noqa: PTH100, keeps links
    if len(folders) < 2:
        return fail("comparing needs at least two runs: name their directories", USAGE)
    runs = [read_compared(folder, name) for folder, name in zip(folders, _names(list(folders)))]
    if as_json:
        print_json({"runs": [_row(run, runs[0]) for run in runs], "settings": differences(runs)})
    elif as_csv:
        rows = [_flat(run, runs) for run in runs]
        print_csv(list(dict.fromkeys(key for row in rows for key in row)), rows)
    else:
        show(runs, screen())
    return OK


def show(runs: Sequence[ComparedRun], console: Console) -> None:
    """Print the comparison."""
    console.print(_results(runs))
    console.print("\nAgainst run 1", style="bold")
    console.print(_verdicts(runs))
    console.print("\nBest of each metric, and its epoch", style="bold")
    console.print(_metrics(runs))
    _settings(runs, console)
    console.print()
    for line in _notes(runs):
        note(console, line)


def _results(runs: Sequence[ComparedRun]) -> Table:
    metric, hours = common_metric([run.overview for run in runs]), any(run.devices > 1 for run in runs)
    table = plain_table()
    table.add_column("", justify="right")
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    for head in (metric or "best", "at", "epochs", "time", *(["device h"] if hours else []), "size"):
        table.add_column(head, justify="right", no_wrap=True)
    best = max((run.overview.best for run in runs if run.overview.best is not None), default=None)
    for number, run in enumerate(runs, start=1):
        it = run.overview
        planned = f"/{it.planned}" if it.planned else ""
        table.add_row(
            str(number),
            literal(it.name),
            it.state.value,
            literal("-" if it.best is None else f"{it.best:.4f}", "bold green" if metric and it.best == best else ""),
            "-" if it.best_epoch is None else str(it.best_epoch),
            f"{it.epochs}{planned}",
            "-" if it.seconds is None else duration(it.seconds),
            *(["-" if run.device_hours is None else f"{run.device_hours:.2f}"] if hours else []),
            size(it.size),
        )
    return table


def _verdicts(runs: Sequence[ComparedRun]) -> Table:
    table = plain_table()
    table.show_header = False
    table.add_column(justify="right")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for number, run in enumerate(runs[1:], start=2):
        words, limits = verdict(run, runs[0])
        here, there = run.overview.best, runs[0].overview.best
        gap = "-" if limits is None or here is None or there is None else f"{here - there:+.4f}"
        style = {"better": "green", "worse": "red"}.get(words, "yellow")
        told = literal(f"between {limits[0]:+.4f} and {limits[1]:+.4f}", style, f"{words}:") if limits else None
        table.add_row(str(number), gap, told or literal(words, style))
    return table


def _metrics(runs: Sequence[ComparedRun]) -> Table:
    table = plain_table()
    table.add_column("", overflow="fold")
    for number in range(1, len(runs) + 1):
        table.add_column(str(number), justify="right")
    for name in dict.fromkeys(key for run in runs for key in run.metrics):
        cells = [f"{run.metrics[name][0]:.4f} @ {run.metrics[name][1]}" if name in run.metrics else "-" for run in runs]
        table.add_row(literal(name.removeprefix("metrics/")), *cells)
    return table


def _settings(runs: Sequence[ComparedRun], console: Console) -> None:
    found = differences(runs)
    console.print(f"\nSettings that differ: {len(found) or 'none'}", style="bold")
    if not found:
        return
    if len(runs) > _SIDE_BY_SIDE:
        for name, values in found.items():
            which: dict[str, list[str]] = {}
            for number, value in enumerate(values, start=1):
                which.setdefault(_short(value), []).append(str(number))
            parts = "; ".join(f"{value} (run {', '.join(numbers)})" for value, numbers in which.items())
            console.print(literal(parts, "cyan", name))
        return
    table = plain_table()
    table.add_column("", overflow="fold", style="cyan")
    for number in range(1, len(runs) + 1):
        table.add_column(str(number), overflow="fold")
    for name, values in found.items():
        table.add_row(literal(name), *(literal(_short(value)) for value in values))
    console.print(table)


def _notes(runs: Sequence[ComparedRun]) -> list[str]:
    """Return what a reader must know to read the tables correctly."""
    notes = []
    images = {run.images for run in runs if run.images}
    if any(run.interval for run in runs):
        number = f"{images.pop():,}" if len(images) == 1 else "their"
        notes.append(
            f"The 95% interval of a difference is that of two shares of {number} validation images (Wilson 1927, "
            "Newcombe 1998). For mAP it is an approximation. It does not include the noise between two trainings with "
            "the same settings: repeat them with other seeds to be sure. The best of many epochs is optimistic."
        )
    without = [str(number) for number, run in enumerate(runs, start=1) if not run.has_arguments]
    if without:
        notes.append(f"No args.yaml: run {', '.join(without)}. Its settings are unknown.")
    return notes


def _names(folders: Sequence[Path]) -> list[str]:
    """Return short names: the paths below their common directory."""
    try:
        common = os.path.commonpath([str(folder.parent) for folder in folders])
    except ValueError:  # several drives
        return [str(folder) for folder in folders]
    return [os.path.relpath(folder, common) for folder in folders]


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:20]}...{text[-_LONGEST_VALUE + 23 :]}"


def _row(run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
    """Return a run as plain data."""
    words, limits = verdict(run, first) if run is not first else ("reference", None)
    return {
        **run.overview.to_json(),
        "interval": run.interval,
        "validation_images": run.images,
        "against_first": words,
        "difference_interval": limits,
        "devices": run.devices,
        "device_hours": run.device_hours,
        "metrics": {name: {"best": value, "epoch": epoch} for name, (value, epoch) in run.metrics.items()},
    }


def _flat(run: ComparedRun, runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """Return a run as one line."""
    row = _row(run, runs[0])
    for name in ("interval", "difference_interval"):
        low, high = row.pop(name) or ("", "")
        row.update({f"{name}_low": low, f"{name}_high": high})
    for name, item in row.pop("metrics").items():
        row.update({name: item["best"], f"{name} epoch": item["epoch"]})
    return {**row, **{f"setting {name}": run.settings.get(name, "") for name in differences(runs)}}
