"""Curves of a run, drawn from its journal: `python -m yolo_callbacks.pictures.curves JOURNAL PICTURE`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_callbacks.core.decision import Finish, SetFrozen, SetLearningRate, Stop
from yolo_callbacks.core.entry import Entry, best_fitness
from yolo_callbacks.core.findings import PREFIX
from yolo_callbacks.core.finishing import finish_in
from yolo_callbacks.core.metrics import direction
from yolo_callbacks.core.record import Plan
from yolo_callbacks.pictures.drawing import render_from_command_line, show_text_literally
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.support import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (12.0, 7.6)
_DPI = 110
_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#17becf", "#8c564b", "#e377c2", "#7f7f7f")
_GOLD, _RED, _GRAY = "#c99700", "#d62728", "#555555"
_LABEL_BOX = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}

_SYSTEM = {"Parts of an epoch (s)": "_seconds", "Memory (GiB)": "_gb"}
_NOT_DRAWN = (f"{PREFIX}disk_free_gb",)  # of another size

Curve = tuple[Sequence[int], Sequence[float]]


def draw_curves(entries: Sequence[Entry], plan: Plan, title: str = "") -> Figure:
    """Draw metrics, losses, learning rate and counters over the epochs; times and memory, if `SystemMonitor` has them.

    Args:
        entries: The epochs, at least one.
        plan: The plan of the run.
        title: Name of the run.

    Returns:
        A matplotlib Figure without a GUI.
    """
    from matplotlib.figure import Figure

    system = {n: c for n, c in _curves(entries, _metrics).items() if n.startswith(PREFIX)}
    rows = 3 if system else 2
    figure = Figure(figsize=(_INCHES[0], _INCHES[1] * rows / 2), dpi=_DPI, layout="constrained")
    axes = [axis for row in figure.subplots(rows, 2, sharex=True) for axis in row]
    metrics, losses, rate, counters, *others = axes
    _draw_metrics(metrics, entries)
    _draw_losses(losses, entries)
    _draw_learning_rate(rate, entries)
    _draw_counters(counters, entries)
    for axis, (what, ending) in zip(others, _SYSTEM.items()):
        _draw_system(axis, system, what, ending)
    for axis in axes:
        _mark_decisions(axis, entries, named=axis is rate)
        axis.grid(True, alpha=0.25)
        axis.set_xlim(*_limits(entries))
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[-2:]:
        axis.set_xlabel("epoch")
    figure.suptitle(_headline(entries, plan, title), fontsize=11)
    show_text_literally(figure)
    return figure


def _limits(entries: Sequence[Entry]) -> tuple[float, float]:
    """Return the limits of the epoch axis, with a small margin."""
    first, last = entries[0].record.epoch, entries[-1].record.epoch
    margin = 0.015 * (last - first) or 0.5
    return first - margin, last + margin


def _draw_metrics(axis: Axes, entries: Sequence[Entry]) -> None:
    curves = _curves(entries, _metrics)
    names = [name for name in curves if name.startswith("metrics/")]
    if "fitness" in curves and all(curves["fitness"] != curves[name] for name in names):
        names.append("fitness")
    errors = [name for name in names if direction(name) == "min"]  # depth errors, which are not shares
    colors = dict(zip(names, _first_colors(len(names))))
    if errors:
        right = axis.twinx()
        for name in errors:
            _line(right, curves[name], "", colors[name], style="--")
            axis.plot([], [], "--", color=colors[name], label=f"{name.removeprefix('metrics/')} (right)")
        _log_scale(right, [curves[name][1] for name in errors])
    names = [name for name in names if name not in errors]
    for name in names:
        main = name.startswith("metrics/mAP50-95") or name == "fitness" or curves[name] == curves.get("fitness")
        _line(axis, curves[name], name.removeprefix("metrics/"), colors[name], width=2.2 if main else 1.2)
    best = best_fitness(entries)
    if best is not None:
        epoch, value = best
        axis.plot([epoch], [value], marker="*", markersize=15, color=_GOLD, markeredgecolor="black", zorder=5)
        align = "right" if epoch > 0.9 * entries[-1].record.epoch else "center"
        axis.annotate(f"{value:.4g}", best, textcoords="offset points", xytext=(0, 10), ha=align, bbox=_LABEL_BOX)
    axis.margins(y=0.12)
    highest = max((v for name in names for v in curves[name][1] if math.isfinite(v)), default=0.0)
    axis.set_ylim(0, None if highest else 1)
    if names and not highest:
        axis.text(0.5, 0.5, "all metrics are still 0", transform=axis.transAxes, ha="center", color=_GRAY)
    _title_and_legend(axis, "Validation metrics")


def _draw_losses(axis: Axes, entries: Sequence[Entry]) -> None:
    curves = _curves(entries, _metrics)
    names = list(dict.fromkeys(n.split("/", 1)[1] for n in curves if n.startswith(("train/", "val/"))))
    for color, name in zip(_first_colors(len(names)), names):
        if f"train/{name}" in curves:
            _line(axis, curves[f"train/{name}"], name, color)
        if f"val/{name}" in curves:
            _line(axis, curves[f"val/{name}"], "" if f"train/{name}" in curves else name, color, style="--")
    _log_scale(axis, [values for name, (_, values) in curves.items() if name.startswith(("train/", "val/"))])
    _title_and_legend(axis, "Losses (solid: training, dashed: validation)")


def _draw_learning_rate(axis: Axes, entries: Sequence[Entry]) -> None:
    curves = {n: c for n, c in _curves(entries, _metrics).items() if n.startswith("lr/")}
    same: dict[tuple[float, ...], list[str]] = {}
    for name, (_, values) in curves.items():
        same.setdefault(tuple(values), []).append(name.removeprefix("lr/"))
    for color, (rates, names) in zip(_first_colors(len(same)), same.items()):
        values = [rate or math.nan for rate in rates]  # a warm-up may begin at 0, which has no logarithm
        epochs = curves[f"lr/{names[0]}"][0]
        groups = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}" if len(names) > 2 else ", ".join(names)
        _line(axis, (epochs, values), groups, color, width=1.8)
    _log_scale(axis, [[rate for rate in rates if rate] for rates in same])
    _title_and_legend(axis, "Learning rate by parameter group")


def _draw_counters(axis: Axes, entries: Sequence[Entry]) -> None:
    curves = {n: c for n, c in _curves(entries, _counters).items() if n.endswith("/wait")}
    for color, (name, curve) in zip(_first_colors(len(curves)), curves.items()):
        _line(axis, curve, name.removesuffix("/wait"), color)
    if not curves:
        speed = _curves(entries, _measures)
        if "seconds" in speed:
            _line(axis, speed["seconds"], "seconds", _COLORS[0])
        _title_and_legend(axis, "Seconds per epoch")
        return
    axis.set_ylim(bottom=0)
    _title_and_legend(axis, "Epochs without improvement")


def _draw_system(axis: Axes, curves: Mapping[str, Curve], title: str, ending: str) -> None:
    """Draw what `SystemMonitor` has measured in one unit."""
    chosen = {name: curve for name, curve in curves.items() if name.endswith(ending) and name not in _NOT_DRAWN}
    for color, (name, curve) in zip(_first_colors(len(chosen)), chosen.items()):
        _line(axis, curve, name.removeprefix(PREFIX).removesuffix(ending), color)
    axis.set_ylim(
        0, 1.1 * max((v for _, values in chosen.values() for v in values if math.isfinite(v)), default=1) or 1
    )
    _title_and_legend(axis, title)


def _mark_decisions(axis: Axes, entries: Sequence[Entry], named: bool) -> None:
    """Mark the best epoch and decisions with vertical lines; label them if `named`."""
    best = best_fitness(entries)
    if best is not None:
        axis.axvline(best[0], color=_GOLD, linestyle="-", linewidth=1, alpha=0.7)
    for decision in (decision for entry in entries for decision in entry.decisions):
        if isinstance(decision, SetLearningRate) and decision.label:
            axis.axvline(decision.epoch, color=_GRAY, linestyle=":", linewidth=1.2)
            if named:
                _name(axis, decision.epoch, f"x {decision.factor:.3g}", _GRAY)
        elif isinstance(decision, SetFrozen) and decision.label:
            axis.axvline(decision.epoch, color=_GRAY, linestyle=":", linewidth=1.2)
            if named:
                _name(axis, decision.epoch, decision.label, _GRAY)
        elif isinstance(decision, Finish):
            axis.axvline(decision.epoch, color=_RED, linestyle="--", linewidth=1.4)
            if named:
                _name(axis, decision.epoch, decision.label, _RED)
        elif isinstance(decision, Stop):
            axis.axvline(decision.epoch, color=_RED, linestyle="-", linewidth=1.8)
            if named:
                _name(axis, decision.epoch, f"stop: {decision.reason}", _RED)


def _name(axis: Axes, epoch: int, text: str, color: str) -> None:
    axis.annotate(
        text,
        (epoch, 0.97),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        xytext=(-3, 0),
        rotation=90,
        ha="right",
        va="top",
        fontsize=9,
        color=color,
        bbox=_LABEL_BOX,
    )


def _headline(entries: Sequence[Entry], plan: Plan, title: str) -> str:
    last = entries[-1]
    planned = last.record.planned_epochs or plan.planned_epochs
    parts = [f"epoch {last.record.epoch}" + (f" of {planned}" if planned else "")]
    best = best_fitness(entries)
    if best is not None:
        parts.append(f"best fitness {best[1]:.4g} in epoch {best[0]}")
    seconds = [entry.record.measures["seconds"] for entry in entries if "seconds" in entry.record.measures]
    if seconds:
        parts.append(f"{sorted(seconds)[len(seconds) // 2]:.3g} s per epoch")
    headline = " · ".join(([title] if title else []) + parts)
    decisions = [decision for entry in entries for decision in entry.decisions]
    end = last.stop or finish_in(decisions, last.record.epoch)
    return headline + (f"\n{end.message}" if end else "")


def _metrics(entry: Entry) -> Mapping[str, float]:
    return entry.record.metrics


def _measures(entry: Entry) -> Mapping[str, float]:
    return entry.record.measures


def _counters(entry: Entry) -> Mapping[str, float]:
    return entry.counters or {}


def _curves(entries: Sequence[Entry], part: Callable[[Entry], Mapping[str, float]]) -> dict[str, Curve]:
    """Return one curve per name in a part of the entries, over the epochs that have it."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for entry in entries:
        for name, value in part(entry).items():
            epochs, values = curves.setdefault(name, ([], []))
            epochs.append(entry.record.epoch)
            values.append(value)
    return dict(curves)


def _line(axis: Axes, curve: Curve, label: str, color: str, style: str = "-", width: float = 1.4) -> None:
    epochs, values = _with_gaps(curve)
    alone = len(curve[0]) == 1
    marker = "o" if alone else "." if len(epochs) > len(curve[0]) else ""  # between two gaps there is no line
    axis.plot(epochs, values, style, color=color, linewidth=width, label=label or "_", marker=marker, markersize=4)


def _with_gaps(curve: Curve) -> Curve:
    """Return a curve with NaN where epochs were not validated, so that no line is drawn over what is not known."""
    epochs, values = list[int](), list[float]()
    for epoch, value in zip(*curve):
        if epochs and epoch > epochs[-1] + 1:
            epochs.append(epochs[-1] + 1)
            values.append(math.nan)
        epochs.append(epoch)
        values.append(value)
    return epochs, values


def _log_scale(axis: Axes, curves: Iterable[Sequence[float]]) -> None:
    """Use a logarithmic axis if every value is positive: losses differ by powers of ten."""
    values = [value for curve in curves for value in curve if math.isfinite(value)]
    if values and min(values) > 0:
        axis.set_yscale("log")


def _title_and_legend(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=10)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=8, loc="best", framealpha=0.85)


def _first_colors(count: int) -> list[str]:
    return [_COLORS[i % len(_COLORS)] for i in range(count)]


def render(journal: Path, picture: Path) -> None:
    """Draw the curves of a journal to a PNG, written atomically.

    Raises:
        ValueError: If the journal has no epoch.
        OSError: If it cannot be read, or the plot cannot be written.
    """
    content = read_journal(journal)
    if not content.entries:
        raise ValueError(f"{journal} has no epoch to draw")
    figure = draw_curves(content.entries, content.plan, journal.parent.parent.name)
    with storage.replacing(picture) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    render_from_command_line(render)
