"""lr_find(): a learning-rate range test that changes nothing."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_callbacks.choosing import check_model
from yolo_callbacks.core.lr_range import MODES, suggest
from yolo_callbacks.pictures.drawing import draw_in_process
from yolo_callbacks.support import storage
from yolo_callbacks.support.checks import check_choice, check_int, check_number
from yolo_callbacks.support.numbers import finite_or_none
from yolo_callbacks.trainer.lr_range_test import RangeTest, measure

_REFUSED = ("resume", "project", "name", "save_dir", "exist_ok", "cfg", "time")


@dataclass(frozen=True)
class LRFindResult:
    """The result of a range test.

    Attributes:
        lrs: The learning rates that were tried, rising.
        losses: The training loss at each.
        suggestion: The suggested `lr0`; None if there is no clear one.
        message: The suggestion, or why there is none, as one sentence.
        optimizer: The optimizer that was used; the suggestion holds for it.
        auto: What `optimizer=auto` would choose for this data and number of epochs, as one sentence.
        diverged: Whether the loss diverged, so that the test ended early.
        picture: The picture; None if none was asked for.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float | None
    message: str
    optimizer: str
    auto: str
    diverged: bool
    picture: Path | None = None


def lr_find(
    model: Any,
    *,
    min_lr: float = 1e-6,
    max_lr: float = 1.0,
    num_training: int = 100,
    mode: str = "exponential",
    early_stop_threshold: float | None = 4.0,
    picture: str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> LRFindResult:
    """Train for some steps with a rising learning rate, and suggest one: a range test (Smith 2017).

    It uses Ultralytics' own trainer in a temporary folder, without callbacks and integrations, validation and warm-up.
    The model keeps its weights, and the random generators their state. See docs/lr-find.md.

    Args:
        model: An Ultralytics model, such as `YOLO("yolo26n.pt")`.
        min_lr: The first rate, > 0. Defaults to 1e-6.
        max_lr: The last rate, > `min_lr`. Defaults to 1.0.
        num_training: Number of steps of the optimizer, >= 20; with a small batch, one takes several batches (`nbs`).
            Defaults to 100.
        mode: How the rate grows, `"exponential"` or `"linear"`. Defaults to `"exponential"`.
        early_stop_threshold: End when the running mean of the loss exceeds so many times its best value, > 1; None for
            never. A loss that is not finite always ends it. Defaults to 4.0.
        picture: Where to draw the curve, as PNG; None for nowhere. Defaults to None.
        **arguments: Arguments of `model.train`: `data`, `epochs`, `batch`, `imgsz`, `optimizer`, `freeze`, ...

    Returns:
        Rates, losses and the suggestion: where the smoothed loss falls fastest over the logarithm of the rate.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or several devices are asked for.

    Example:
        ```python
        found = ycb.lr_find(YOLO("yolo26n.pt"), data="coco8.yaml", epochs=100, optimizer="AdamW", picture="lr.png")
        print(found.suggestion, found.message)
        ```
    """
    check_model(model)
    refused = next((name for name in _REFUSED if name in arguments), None)
    if refused is not None:
        raise ValueError(f"lr_find() makes a number of steps in a temporary folder: leave out {refused}")
    if isinstance(arguments.get("data"), (list, tuple)):
        raise ValueError("lr_find() tests one data set: give one data=")
    lowest = check_number("min_lr", min_lr, minimum=0.0, exclusive=True)
    test = RangeTest(
        min_lr=lowest,
        max_lr=check_number("max_lr", max_lr, minimum=lowest, exclusive=True),
        steps=check_int("num_training", num_training, minimum=20),
        mode=check_choice("mode", mode, MODES),
        threshold=None
        if early_stop_threshold is None
        else check_number("early_stop_threshold", early_stop_threshold, minimum=1.0, exclusive=True),
    )
    measured = measure(model, arguments, test)
    found = suggest(measured.lrs, measured.losses)
    optimizer = measured.optimizer
    message = found.why if found.lr is None else f"suggestion for {optimizer}: lr0={found.lr:.2g}, {found.why}"
    target = Path(picture) if picture is not None else None
    if target is not None:
        content = {
            "lrs": measured.lrs,
            "losses": [finite_or_none(loss) for loss in measured.losses],
            "suggestion": found.lr,
            "message": message,
            "mode": mode,
        }
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "lr.json"
            storage.write_json(source, content)
            draw_in_process("pictures.lr_curve", source, target)
    choice = measured.auto
    assert choice is not None  # at least one step was made
    ignoring = "optimizer=auto" + (", which you use," if measured.asked_auto else "")
    return LRFindResult(
        tuple(measured.lrs),
        tuple(measured.losses),
        found.lr,
        message,
        optimizer,
        f"{ignoring} ignores lr0: for this data and number of epochs it chooses {choice.optimizer} with "
        f"lr0={choice.lr0:g}",
        measured.diverged,
        target,
    )
