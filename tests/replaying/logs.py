"""Logs of runs, written as the trainers write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

BOX = "metrics/mAP50-95(B)"


def write_csv(
    folder: Path, scores: Iterable[float], *, key: str = BOX, seconds: float | None = 60.0, **arguments
) -> Path:
    """Write the results.csv of a run with these scores, and an args.yaml if there are arguments; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    time = ["time"] if seconds is not None else []
    lines = [",".join(["epoch", *time, "train/box_loss", key, "val/box_loss", "lr/pg0"])]
    for epoch, score in enumerate(scores, start=1):
        took = [seconds * epoch] if seconds is not None else []
        lines.append(",".join(f"{value:.6g}" for value in (epoch, *took, 2.0, score, 3.0, 0.01)))
    (folder / "results.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if arguments:
        write_args(folder, arguments)
    return folder


def write_args(folder: Path, arguments: Mapping[str, object]) -> None:
    text = "".join(f"{key}: {'null' if value is None else value}\n" for key, value in arguments.items())
    (folder / "args.yaml").write_text(text, encoding="utf-8")


def rise_and_fall(top: int, length: int) -> Sequence[float]:
    """Return scores that rise to epoch `top` and then fall."""
    return [0.5 - 0.01 * abs(epoch - top) for epoch in range(1, length + 1)]
