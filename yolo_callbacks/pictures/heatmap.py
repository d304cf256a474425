"""Heat map of classes over epochs: `python -m yolo_callbacks.pictures.heatmap CSV PICTURE [CLASS ...]`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo_callbacks.pictures.class_curves import ClassCurves, Floats, read_curves
from yolo_callbacks.pictures.drawing import render_from_command_line, show_text_literally
from yolo_callbacks.support import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

_MAX_ROWS = 100
_BEST, _WORST = 20, 20  # classes shown if there are more rows than that
_MAX_ABSENT = 5
_DPI = 110
_WIDTH, _ROW_HEIGHT, _BAND_HEIGHT, _MARGINS = 12.0, 0.17, 1.8, 1.6  # inches
_NOTE = 1.6  # height of a line of text, in rows
_MAX_LABEL = 28  # characters
_BLUE = "#1f77b4"
_SCRIPTS = ("Noto Sans CJK", "Noto Sans", "Noto Emoji", "Microsoft YaHei", "PingFang", "Hiragino", "WenQuanYi", "Arial")


@dataclass(frozen=True)
class _Layout:
    """The layout: blocks of rows, and a line of text below each, empty for none."""

    blocks: tuple[tuple[Sequence[int], str], ...]
    absent: tuple[str, ...]
    absent_note: str
    complete: bool

    @property
    def height(self) -> float:
        """The total height in rows."""
        notes = sum(bool(text) for _, text in self.blocks) + bool(self.absent_note)
        return sum(len(block) for block, _ in self.blocks) + len(self.absent) + _NOTE * notes


def draw_heat_map(curves: ClassCurves, title: str = "", only: Collection[str] = ()) -> Figure:
    """Draw one row per class, colored by its metric, best on top.

    Of more than 100 classes, the best 20 and the worst 20 are shown, below the distribution of all of them.

    Args:
        curves: The curves, at least one epoch.
        title: Name of the run.
        only: The requested classes; empty for all.

    Returns:
        A matplotlib Figure without a GUI.
    """
    from matplotlib.figure import Figure

    order = [int(place) for place in np.argsort(-curves.newest, kind="stable")]
    requested = [place for place in order if not only or curves.names[place] in only]
    absent = [name for name in curves.absent if not only or name in only]
    layout = _lay_out(curves, requested, absent)
    height, band = _ROW_HEIGHT * max(6.0, layout.height), 0.0 if layout.complete else _BAND_HEIGHT
    figure = Figure(figsize=(_WIDTH, height + band + _MARGINS), dpi=_DPI, layout="constrained")
    if layout.complete:
        axis = figure.subplots()
    else:
        upper, axis = figure.subplots(2, 1, sharex=True, height_ratios=[band, height])
        _draw_distribution(upper, curves)
    image = _draw_rows(axis, curves, layout)
    if image is not None:
        figure.colorbar(image, ax=[axis], label=curves.metric, shrink=min(1.0, 30 / layout.height), pad=0.05, aspect=25)
    figure.suptitle(_headline(curves, title, requested, len(absent), bool(only)), fontsize=11)
    show_text_literally(figure)
    return figure


def _lay_out(curves: ClassCurves, requested: Sequence[int], absent: Sequence[str]) -> _Layout:
    """Choose the rows: all of them, or the best and the worst if there are too many."""
    if len(absent) > _MAX_ABSENT:
        absent, note = (), f"{len(absent)} classes do not occur in the validation set"
    else:
        note = ""
    if len(requested) <= _MAX_ROWS:
        return _Layout(((requested, ""),), tuple(absent), note, complete=True)
    above = [place for place in requested if curves.newest[place] > 0]
    shown, at_zero = requested, ""
    if len(above) >= _BEST + _WORST and len(above) < len(requested):  # rows of only 0 would say nothing
        shown, at_zero = above, f"{len(requested) - len(above)} classes at 0"
    between = f"{len(shown) - _BEST - _WORST} more classes in between"
    return _Layout(((shown[:_BEST], between), (shown[-_WORST:], at_zero)), tuple(absent), note, complete=False)


def _draw_rows(axis: Axes, curves: ClassCurves, layout: _Layout) -> QuadMesh | None:
    from matplotlib.ticker import MaxNLocator

    edges, highest = (
        _edges(curves.ends),
        _highest(curves.values[[place for rows, _ in layout.blocks for place in rows]]),
    )
    axis.set_facecolor("#e4e4e4")
    ticks: list[float] = []
    labels: list[tuple[str, str]] = []
    top, image = 0.0, None
    for rows, note in layout.blocks:
        if rows:
            bounds, values = top + np.arange(len(rows) + 1), curves.values[list(rows)]
            image = axis.pcolormesh(edges, bounds, values, vmin=0.0, vmax=highest, cmap="viridis", rasterized=True)
        ticks += [top + place + 0.5 for place in range(len(rows))]
        labels += [(curves.names[place], f"{curves.newest[place]:.3f}") for place in rows]
        top = _draw_note(axis, top + len(rows), note)
    if layout.absent:
        _hatch(axis, top, top + len(layout.absent))
        ticks += [top + place + 0.5 for place in range(len(layout.absent))]
        labels += [(name, "") for name in layout.absent]
        top += len(layout.absent)
    if layout.absent_note:
        _hatch(axis, top, top + _NOTE)
        top = _draw_note(axis, top, layout.absent_note)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(top, 0)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _label(axis, ticks, [_short(name) for name, _ in labels])
    right = axis.twinx()
    right.set_ylim(top, 0)
    _label(right, ticks, [value for _, value in labels])
    right.tick_params(length=0)
    return image


def _highest(values: Floats) -> float:
    """Return the upper end of the color scale: just above the highest value, 1 if all are 0."""
    highest = max((float(value) for value in values[np.isfinite(values)]), default=0.0)
    return min(1.0, math.ceil(highest * 20) / 20) or 1.0


def _draw_note(axis: Axes, top: float, text: str) -> float:
    """Write a line of text across the plot, and return where it ends."""
    if not text:
        return top
    axis.text(
        0.5,
        top + _NOTE / 2,
        text,
        transform=axis.get_yaxis_transform(),
        ha="center",
        va="center",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
    return top + _NOTE


def _hatch(axis: Axes, top: float, bottom: float) -> None:
    axis.axhspan(top, bottom, facecolor="#d0d0d0", edgecolor="#9a9a9a", hatch="///", linewidth=0)


def _label(axis: Axes, ticks: Sequence[float], labels: Sequence[str]) -> None:
    axis.set_yticks(ticks)
    for text in axis.set_yticklabels(labels, fontsize=8, fontfamily=_fonts()):
        text.set_parse_math(False)  # a class may be named $100


def _draw_distribution(axis: Axes, curves: ClassCurves) -> None:
    """Draw the distribution of all classes, including those without a row."""
    epochs = [(first + last) / 2 for first, last in curves.ends]
    low, tenth, median, ninetieth, high = np.nanpercentile(curves.values, [0, 10, 50, 90, 100], axis=0)
    marker = "o" if len(epochs) == 1 else ""
    axis.fill_between(epochs, low, high, color=_BLUE, alpha=0.12, linewidth=0, label="worst to best")
    axis.fill_between(epochs, tenth, ninetieth, color=_BLUE, alpha=0.3, linewidth=0, label="10th to 90th percentile")
    axis.plot(epochs, median, color=_BLUE, marker=marker, label="median")
    axis.set_ylim(bottom=0)
    axis.set_ylabel(curves.metric)
    axis.set_title(f"All {len(curves.names)} classes", fontsize=10)
    axis.grid(True, alpha=0.25)
    axis.legend(fontsize=8, loc="upper left", framealpha=0.85)


def _edges(ends: Sequence[tuple[int, int]]) -> Floats:
    """Return the edges of the columns, halfway between neighbors if epochs between them were not validated."""
    inner = [(before[1] + after[0]) / 2 for before, after in itertools.pairwise(ends)]
    return np.array([ends[0][0] - 0.5, *inner, ends[-1][1] + 0.5])


def _headline(curves: ClassCurves, title: str, requested: Sequence[int], absent: int, chosen: bool) -> str:
    zero = sum(curves.newest[place] == 0 for place in requested)
    parts = [f"{curves.metric} by class", f"epoch {curves.ends[-1][1]}"]
    parts.append(f"{len(requested)} of {len(curves.names)} classes" if chosen else f"{len(requested)} classes")
    parts += [f"{zero} at 0"] if zero else []
    parts += [f"{absent} not in the validation set (hatched)"] if absent else []
    return " · ".join(([title] if title else []) + parts)


def _short(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"


def _fonts() -> list[str]:
    """Return matplotlib's own font, and installed ones for scripts that it lacks."""
    from matplotlib import font_manager

    installed = sorted({font.name for font in font_manager.fontManager.ttflist})
    return ["DejaVu Sans", *(name for name in installed if name.startswith(_SCRIPTS))]


def render(source: Path, picture: Path, *only: str) -> None:
    """Draw `classes.csv` to a PNG, written atomically.

    Raises:
        ValueError: If it has no row.
        OSError: If it cannot be read, or the plot cannot be written.
    """
    figure = draw_heat_map(read_curves(source), source.parent.parent.name, only)
    with storage.replacing(picture) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    render_from_command_line(render)
