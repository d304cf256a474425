"""Whether an exported file computes the same as its model: both get the same noise, and their outputs are compared.

This needs no data and no trained weights: an untrained model scores 0 on any data, exported well or badly. The
statistics of its BatchNorm layers are those of the noise: with the initial ones its signals fade from layer to layer,
and all its outputs are nearly the same.
"""

from __future__ import annotations

import copy
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


def settle(model: Any, arguments: Mapping[str, Any]) -> None:
    """Set the statistics of a model's BatchNorm layers to those of the noise, if it can train on noise."""
    import torch

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momentum, before = [layer.momentum for layer in layers], [copy.deepcopy(layer.state_dict()) for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    try:
        with torch.no_grad():
            model.float().train()(_noise(arguments, (getattr(model, "yaml", None) or {}).get("channels", 3)))
    except Exception:  # a user's model may need more than pictures to train
        for layer, state in zip(layers, before):
            layer.load_state_dict(state)
    finally:
        model.eval()
        for layer, own in zip(layers, momentum):
            layer.momentum = own


def _noise(arguments: Mapping[str, Any], channels: int) -> Any:
    """Return pictures of noise, shape (batch, channels, height, width), in [0, 1]; always the same."""
    import torch
    from ultralytics.utils.checks import check_imgsz

    height, width = check_imgsz(arguments["imgsz"], stride=32, min_dim=2)
    shape = int(arguments.get("batch", 1)), int(channels), height, width
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def compare(exported: Path, model: Any, predictor: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run an exported file and the model that it was made from, and compare their outputs.

    Args:
        exported: The exported file.
        model: The model, a copy that the export has not touched.
        predictor: Ultralytics' class that loads and runs both.
        arguments: The arguments of the export, among them `imgsz`.

    Returns:
        `"finite"`: whether the exported file's outputs are finite wherever the model's are; `"agreements"`: see
        `agreements`; `"reduced"`: whether the export was to have a lower precision.
    """
    mine, _ = _run(None, {"model": str(exported)}, predictor, arguments)
    theirs, end2end = _run(model, {}, predictor, arguments)
    comparable = all(_is_finite(output) for output in theirs)
    return {
        "finite": all(_is_finite(output) for output in mine) or not comparable,
        "agreements": agreements(mine, theirs, end2end=end2end) if comparable else [],
        "reduced": any(arguments.get(name) for name in REDUCED_PRECISION),
    }


def agreements(mine: Iterable[Array], theirs: Iterable[Array], *, end2end: bool = False) -> list[dict[str, Any]]:
    """Compare the outputs of an exported file with those of its model.

    Each is compared with the first one of the same shape; an output without such a counterpart (some formats arrange
    theirs otherwise) is left out.

    Args:
        mine: Outputs of the exported file, each of shape (images, ...).
        theirs: Outputs of the model.
        end2end: Whether the model's first output lists the detections that it has chosen, one per row.

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


def _run(
    model: Any, names: Mapping[str, Any], predictor: Any, arguments: Mapping[str, Any]
) -> tuple[list[Array], bool]:
    """Return the raw outputs of a model for noise, and whether the first one lists chosen detections."""
    import torch

    heads = {name: arguments[name] for name in _HEADS if arguments.get(name) is False}
    settings = {"imgsz": arguments["imgsz"], "device": arguments.get("device"), "batch": arguments.get("batch", 1)}
    runner = predictor(overrides={**names, **settings, **heads, "save": False, "verbose": False})
    runner.setup_model(model=model, verbose=False)
    noise = _noise(arguments, getattr(runner.model, "channels", 3))
    with torch.inference_mode():
        outputs = runner.model(noise.to(runner.model.device))
    return [_array(tensor) for tensor in _tensors(outputs)], bool(getattr(runner.model, "end2end", False))


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
