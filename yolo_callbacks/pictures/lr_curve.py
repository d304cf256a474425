"""The curve of a range test: `python -m yolo_callbacks.pictures.lr_curve SOURCE PICTURE`; the source is JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_callbacks.core.lr_range import smoothed
from yolo_callbacks.pictures.drawing import render_from_command_line, show_text_literally
from yolo_callbacks.support import storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCHES, _DPI = (8.0, 5.0), 110
_BLUE, _RED, _GRAY = "#1f77b4", "#d62728", "#555555"


def draw_lr_curve(content: Mapping[str, Any]) -> Figure:
    """Draw the loss over the learning rate, and the suggestion.

    Args:
        content: `lrs`, `losses`, `suggestion` (a rate or None), `message`, `mode`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axis = figure.subplots()
    lrs, losses = content["lrs"], [float("nan") if loss is None else loss for loss in content["losses"]]
    means = smoothed(losses)
    axis.plot(lrs, losses, color=_GRAY, alpha=0.35, linewidth=1.0, label="loss of each step")
    axis.plot(lrs, means, color=_BLUE, linewidth=2.0, label="smoothed")
    if content["mode"] == "exponential":
        axis.set_xscale("log")
    if (suggestion := content["suggestion"]) is not None:
        axis.axvline(suggestion, color=_RED, linestyle="--", label=f"suggestion: lr0={suggestion:.2g}")
    known = sorted(mean for mean in means if math.isfinite(mean))
    if known:  # a loss that has exploded would flatten the rest
        axis.set_ylim(min(known) * 0.9, min(max(known), 3 * known[len(known) // 2]) * 1.05)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.grid(True, alpha=0.25)
    axis.legend(loc="best", fontsize=9)
    figure.suptitle(content["message"], fontsize=10)
    show_text_literally(figure)
    return figure


def render(source: Path, picture: Path) -> None:
    """Draw the picture of a range test."""
    figure = draw_lr_curve(json.loads(source.read_text(encoding="utf-8")))
    with storage.replacing(picture) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    render_from_command_line(render)
