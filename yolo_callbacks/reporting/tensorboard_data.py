"""What is written to TensorBoard, under which tags. Needs a SummaryWriter, not a trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolo_callbacks.core.decision import Decision
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.support.secrets import without_secrets
from yolo_callbacks.trainer.model.tensor_sample import Sample

MARK = "lr/factor"
"""The scalar that every epoch has, written last: an epoch that has it is complete."""

BEST = {"best/fitness": "fitness of the best epoch so far", "best/epoch": "its number"}
"""The metrics by which TensorBoard compares runs."""

_BINS = 64  # of a histogram; TensorBoard shows 30, and PyTorch's default takes ten times the space

_TAGS = {
    "lr_factor": MARK,
    "fitness": "metrics/fitness",
    "seconds": "speed/seconds_per_epoch",
    "images_per_second": "speed/images_per_second",
    "rss_gb": "memory/rss_gb",
    "gpu_gb": "memory/gpu_gb",
}

# Arguments by which runs are compared; all of them would be more than a hundred columns.
_HYPERPARAMETERS = (
    *("model", "data", "epochs", "batch", "nbs", "imgsz", "rect", "multi_scale", "fraction", "seed", "single_cls"),
    *("pretrained", "freeze", "amp", "optimizer", "lr0", "lrf", "cos_lr", "momentum", "weight_decay", "dropout"),
    *("warmup_epochs", "warmup_momentum", "warmup_bias_lr", "patience", "box", "cls", "dfl", "pose", "kobj", "rle"),
    *("close_mosaic", "mosaic", "mixup", "cutmix", "copy_paste", "auto_augment", "erasing", "hsv_h", "hsv_s", "hsv_v"),
    *("degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr"),
)


def tag(name: str) -> str:
    """Return the TensorBoard tag of a number; TensorBoard groups tags by the part before the first `/`.

    Example:
        >>> tag("val/box_loss"), tag("fitness"), tag("lr_factor")
        ('val/box_loss', 'metrics/fitness', 'lr/factor')
    """
    return _TAGS.get(name, name)


class Epochs:
    """Writes epochs, and tracks the best one.

    Args:
        before: Epochs that were written already.
    """

    def __init__(self, before: Iterable[Entry] = ()) -> None:
        self._best = (-math.inf, 0)
        for entry in before:
            self._note_best(entry)

    def write(self, writer: Any, entry: Entry, walltime: float) -> None:
        """Write the numbers and decisions of an epoch.

        Args:
            writer: A SummaryWriter.
            entry: The epoch.
            walltime: When it was completed.
        """
        self._note_best(entry)
        numbers = {tag(name): value for name, value in entry.numbers.items()}
        if self._best[1]:
            numbers |= dict(zip(BEST, self._best))
        last = numbers.pop(MARK)
        for name, value in numbers.items():
            writer.add_scalar(name, value, entry.record.epoch, walltime)
        write_decisions(writer, entry.decisions, walltime)
        writer.add_scalar(MARK, last, entry.record.epoch, walltime)

    def _note_best(self, entry: Entry) -> None:
        fitness = entry.record.metrics.get("fitness", math.nan)
        if entry.record.validated and fitness > self._best[0]:
            self._best = (fitness, entry.record.epoch)


def write_decisions(writer: Any, decisions: Iterable[Decision], walltime: float | None = None) -> None:
    """Write decisions as text, one per callback and epoch; routine ones are omitted."""
    texts: dict[tuple[str, int], list[str]] = {}
    for decision in decisions:
        if decision.label:
            texts.setdefault((decision.source, decision.epoch), []).append(decision.message)
    for (source, epoch), messages in texts.items():
        text = "\n\n".join(f"epoch {epoch}: {message}" for message in messages)
        writer.add_text(f"decisions/{source}", text, epoch, walltime)


def write_run(writer: Any, description: Mapping[str, Any], callbacks: Mapping[str, Any]) -> None:
    """Write a description of the run as text, and its hyperparameters for comparisons."""
    from torch.utils.tensorboard.summary import hparams

    about = without_secrets(description)
    args = about.pop("args")
    for name, values in (("about", about | about.pop("versions")), ("arguments", args)):
        writer.add_text(f"run/{name}", _table(values), 0)
    writer.add_text("run/callbacks", _table(without_secrets(callbacks)), 0)
    chosen = {key: _flat(args[key]) for key in _HYPERPARAMETERS if args.get(key) is not None}
    experiment, start, _ = hparams(chosen, dict.fromkeys(BEST, 0.0))
    for summary in (experiment, start):
        writer.file_writer.add_summary(summary)


def write_end(writer: Any, how: str, epoch: int, failed: bool) -> None:
    """Write how the run ended."""
    from torch.utils.tensorboard.summary import hparams

    writer.add_text("run/end", how, epoch)
    if not failed:
        writer.file_writer.add_summary(hparams({}, {})[2])


def write_histograms(writer: Any, group: str, sample: Sample, epoch: int, walltime: float) -> None:
    """Write one histogram per tensor, of its finite numbers."""
    import numpy as np

    for name, values in sample.items():
        finite = values[np.isfinite(values)]
        if len(finite):
            writer.add_histogram(f"{group}/{name}", finite, epoch, _BINS, walltime)


def complete_epochs(entries: Sequence[Entry], written: set[int]) -> int:
    """Return how many entries were written, from the first one without a gap."""
    number = 0
    while number < len(entries) and entries[number].record.epoch in written:
        number += 1
    return number


def _flat(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else str(value)


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {key} | {str(value).replace('|', chr(92) + '|')} |" for key, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])
