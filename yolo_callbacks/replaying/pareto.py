"""The plot of a replay: what each rule saves against what it loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolo_callbacks.replaying.summary import ReplaySummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Place = tuple[float, float]
"""Lost and saved."""

Point = tuple[str, Place, str]
"""Name, place, and color of the name."""

_INCHES = (9.0, 5.8)
_DPI = 120
_BLUE, _PALE, _GOLD, _GRAY = "#1f77b4", "#9db8cc", "#c99700", "#777777"
# Offsets of a name from its point, in typographic points, best first.
_PLACES = tuple(
    (side * dx, dy, "left" if side > 0 else "right")
    for dx, dy in ((9, -10), (9, -3), (8, 7), (6, 18), (6, -25), (14, 30), (14, -37))
    for side in (1, -1)
)


def draw(report: ReplaySummary) -> Figure:
    """Draw one point per rule: up is saved, right is lost. A line joins the Pareto front.

    Returns:
        A matplotlib Figure that belongs to no GUI.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    rows = report.rule_rows()
    known = [row for row in rows if row["lost_mean"] is not None]
    best = front(known)
    points = [_point(axis, row, row["rule"] in best) for row in known]
    line = [place for name, place, _ in points if name.removesuffix("*") in best]
    line.sort()
    axis.plot(*zip(*line), color=_BLUE, linewidth=1.2, alpha=0.5, zorder=2)
    axis.set_xlabel("lost: how much worse the best model is, mean over the runs")
    axis.set_ylabel("saved: share of the logged epochs, mean over the runs")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.margins(x=0.15, y=0.1)
    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    axis.grid(True, alpha=0.25)
    if any(row["altered"] for row in rows):
        axis.set_xlabel(axis.get_xlabel() + "\n* would also have changed the curve itself, which cannot be replayed")
    epochs = sum(outcome.epochs for outcome in report.of(rows[0]["rule"]))
    axis.set_title(f"Stopping rules over {report.runs:,} run{'s' * (report.runs != 1)}, {epochs:,} epochs", fontsize=11)
    for row in rows:
        if row["lost_mean"] is None:
            axis.axhline(row["saved_mean"], color=_GRAY, linestyle=":", linewidth=1)
            name = f"{row['rule']}: loss unknown"
            points.append((name, (axis.get_xlim()[1] * 0.5, row["saved_mean"]), _GRAY))
    _name_all(figure, axis, points, line)
    return figure


def front(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the Pareto front: the rules that no other beats in both, least lost first. Oracles do not take part.

    Example:
        >>> front([{"rule": name, "saved_mean": saved, "lost_mean": lost, "oracle": False}
        ...        for name, saved, lost in (("a", 0.3, 0.02), ("b", 0.2, 0.03), ("c", 0.1, 0.0))])
        ['c', 'a']
    """
    best, chosen = -1.0, []
    for row in sorted(rows, key=lambda row: (row["lost_mean"], -row["saved_mean"])):
        if not row["oracle"] and row["saved_mean"] > best:
            best = row["saved_mean"]
            chosen.append(row["rule"])
    return chosen


def _point(axis: Axes, row: Mapping[str, Any], on_front: bool) -> Point:
    """Draw a rule."""
    place = row["lost_mean"], row["saved_mean"]
    if row["oracle"]:
        axis.plot(*place, "*", markersize=13, color=_GOLD, markeredgecolor="black", markeredgewidth=0.6, zorder=4)
        return row["rule"], place, "#8a6800"
    color = _BLUE if on_front else _PALE
    axis.plot(*place, "o", markersize=8, color=color, markeredgecolor="white", zorder=3)
    return row["rule"] + "*" * bool(row["altered"]), place, "black" if on_front else _GRAY


def _name_all(figure: Figure, axis: Axes, points: Sequence[Point], line: Sequence[Place]) -> None:
    """Write the names beside the points, each where it covers nothing else if there is such a place.

    If there is none, a rule off the front goes without its name.
    """
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # only now are positions known
    centers = [(float(x), float(y)) for x, y in axis.transData.transform([place for _, place, _ in points])]
    way = Path(axis.transData.transform(line)) if len(line) > 1 else None
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in centers]
    frame = axis.get_window_extent()
    for index, (name, place, color) in sorted(enumerate(points), key=lambda item: item[1][2] == _GRAY):
        tried = [_annotate(axis, name, place, color, where) for where in _PLACES]
        boxes = [text.get_window_extent() for text in tried]
        faults = [
            (_sticks_out(box, frame), box.count_overlaps(taken), _nearest(box, centers) != index, _crosses(box, way))
            for box in boxes
        ]
        chosen = faults.index(min(faults))
        if not faults[chosen][1] or color != _GRAY:
            taken.append(boxes[chosen])
            del tried[chosen]
        for text in tried:
            text.remove()


def _annotate(
    axis: Axes, name: str, place: tuple[float, float], color: str, where: tuple[float, float, str]
) -> Annotation:
    dx, dy, side = where
    far = abs(dy) > 15
    return axis.annotate(
        name,
        place,
        textcoords="offset points",
        xytext=(dx, dy),
        ha=side,
        fontsize=9,
        color=color,
        zorder=5,
        parse_math=False,  # a rule is named after its file, which may be $_$.yaml
        arrowprops={"arrowstyle": "-", "color": _GRAY, "linewidth": 0.6, "shrinkB": 4} if far else None,
    )


def _nearest(box: Bbox, centers: Sequence[Place]) -> int:
    """Return the point that a reader would take a name for."""
    gaps = [
        max(box.x0 - x, 0, x - box.x1) ** 2 + max(box.y0 - y, 0, y - box.y1) ** 2 for x, y in centers
    ]  # squared, in pixels
    return gaps.index(min(gaps))


def _crosses(box: Bbox, line: Path | None) -> bool:
    return line is not None and bool(line.intersects_bbox(box, filled=False))


def _sticks_out(box: Bbox, frame: Bbox) -> bool:
    return bool(box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1)
