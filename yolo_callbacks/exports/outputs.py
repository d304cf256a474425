"""Whether an exported file computes the same as its checkpoint: both get the same noise, and their outputs are compared.

This needs no data and no trained weights: an untrained model scores 0 on any data, exported well or badly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_callbacks.exports.formats import REDUCED_PRECISION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

_TOLERANCE = 0.02  # of the largest value in the same channel or column: half precision stays below it
_NOTHING = 1e-9  # as good as 0
_HEADS = ("nms", "end2end")  # arguments of an export that choose what the model puts out


def compare(exported: Path, checkpoint: Path, task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run an exported file and its checkpoint, and compare their outputs.

    Args:
        exported: The exported file.
        checkpoint: Its checkpoint.
        task: The task of both.
        arguments: The arguments of the export, among them `imgsz`.

    Returns:
        `"finite"`: whether the exported file's outputs are finite wherever the checkpoint's are; `"agreements"`: see
        `agreements`; `"reduced"`: whether the export was to have a lower precision.
    """
    mine, _ = _run(exported, task, arguments)
    theirs, end2end = _run(checkpoint, task, arguments)
    comparable = all(_is_finite(output) for output in theirs)
    return {
        "finite": all(_is_finite(output) for output in mine) or not comparable,
        "agreements": agreements(mine, theirs, end2end=end2end) if comparable else [],
        "reduced": any(arguments.get(name) for name in REDUCED_PRECISION),
    }


def agreements(mine: Iterable[Array], theirs: Iterable[Array], *, end2end: bool = False) -> list[dict[str, Any]]:
    """Compare the outputs of an exported file with those of its checkpoint.

    Each is compared with the first one of the same shape; an output without such a counterpart (some formats arrange
    theirs otherwise) is left out.

    Args:
        mine: Outputs of the exported file, each of shape (images, ...).
        theirs: Outputs of the checkpoint.
        end2end: Whether the checkpoint's first output lists the detections that it has chosen, one per row.

    Returns:
        For each output its `"shape"`, the share in [0, 1] that agrees, and whether it is `"chosen"`: the model chooses
        by scores, of which an untrained one has many that are nearly equal, so some choices may differ.
    """
    left, found = list(enumerate(theirs)), []
    for output in mine:
        place = next((i for i, (_, other) in enumerate(left) if other.shape == output.shape), None)
        if place is None:
            continue
        number, other = left.pop(place)
        rows = end2end and number == 0 and output.ndim == 3
        labels = output.dtype.kind in "iu"
        share = _rows(output, other) if rows else float((output == other).mean()) if labels else _values(output, other)
        found.append({"shape": list(output.shape), "agreement": share, "chosen": rows or labels})
    return found


def _values(mine: Array, theirs: Array) -> float:
    """Return the share of the numbers that agree; each channel (axis 1) has a scale of its own."""
    axes = tuple(axis for axis in range(mine.ndim) if axis != 1 or mine.ndim < 3)
    scale = abs(theirs).max(axis=axes, keepdims=True)
    return float((abs(mine - theirs) <= _TOLERANCE * scale + _NOTHING).mean())


def _rows(mine: Array, theirs: Array) -> float:
    """Return the share of the rows that the other one has too, wherever; each column has a scale of its own."""
    agree = []
    for rows, others in zip(mine, theirs):
        allowed = _TOLERANCE * abs(others).max(axis=0) + _NOTHING
        agree += [bool((abs(others - row) <= allowed).all(axis=1).any()) for row in rows]
    return sum(agree) / max(len(agree), 1)


def _run(path: Path, task: str, arguments: Mapping[str, Any]) -> tuple[list[Array], bool]:
    """Return the raw outputs of a model for noise, and whether the first one lists chosen detections."""
    import torch
    from ultralytics import YOLO
    from ultralytics.utils.checks import check_imgsz

    model = YOLO(path, task=task)
    heads = {name: arguments[name] for name in _HEADS if arguments.get(name) is False}
    settings = {"imgsz": arguments["imgsz"], "device": arguments.get("device"), "batch": arguments.get("batch", 1)}
    predictor = model._smart_load("predictor")(
        overrides={**model.overrides, **settings, **heads, "save": False, "verbose": False}, _callbacks=model.callbacks
    )
    predictor.setup_model(model=model.model, verbose=False)
    backend = predictor.model
    size = check_imgsz(arguments["imgsz"], stride=32, min_dim=2)
    shape = (int(settings["batch"]), int(getattr(backend, "channels", 3)), *size)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(backend.device)
    with torch.inference_mode():
        outputs = backend(noise)
    return [_array(tensor) for tensor in _tensors(outputs)], bool(getattr(backend, "end2end", False))


def _array(tensor: Any) -> Any:
    array = tensor.detach().cpu().numpy()
    return array.astype("float64") if array.dtype.kind == "f" else array


def _tensors(value: Any) -> Iterator[Any]:
    """Yield the tensors in an output; what a checkpoint puts out for its loss comes after what it predicts."""
    if hasattr(value, "detach"):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _is_finite(output: Array) -> bool:
    import numpy as np

    return bool(np.isfinite(output).all())
