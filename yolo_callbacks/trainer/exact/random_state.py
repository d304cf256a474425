"""Where the random numbers of a process come from, and what a data set remembers of the ones before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def generators(device: Any = None) -> dict[str, Any]:
    """Return the state of the generators of Python, NumPy and torch in this process.

    Args:
        device: The device that the model is on; a GPU has a generator of its own.
    """
    import random

    import numpy as np
    import torch

    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": _python_state(random),
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "rest": [int(position), int(has_gauss), float(cached)],
        },
        "torch": torch.get_rng_state(),
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)  # get_rng_state_all would start every GPU
    return state


def set_generators(state: Mapping[str, Any], device: Any = None) -> None:
    """Put the generators of this process in a state."""
    import random

    import numpy as np
    import torch

    if "cuda" in state and device is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    torch.set_rng_state(state["torch"])
    numpy, keys = state["numpy"], state["numpy"]["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, *numpy["rest"]))
    _set_python_state(random, state["python"])


def dataset_state(dataset: Any) -> dict[str, Any]:
    """Return what a data set remembers: the pictures for mosaics, if it makes any, and Albumentations' generators."""
    return {
        "mosaic": mosaic_is_open(dataset),
        "buffer": [int(index) for index in getattr(dataset, "buffer", ())],
        "transforms": [
            {
                "seed": None if transform.seed is None else int(transform.seed),
                "numpy": json.dumps(transform.random_generator.bit_generator.state, default=lambda item: item.tolist()),
                "python": _python_state(transform.py_random),
            }
            for transform in _with_generators(getattr(dataset, "transforms", None))
        ],
    }


def set_dataset_state(dataset: Any, state: Mapping[str, Any]) -> None:
    """Let a data set remember what another one did."""
    for index in getattr(dataset, "buffer", ()):
        dataset.ims[index] = None
    if state["buffer"]:
        dataset.buffer.clear()
    for index in state["buffer"]:
        dataset.load_image(index)  # appends it to the buffer, in which there is room for all
    for transform, own in zip(_with_generators(getattr(dataset, "transforms", None)), state["transforms"]):
        transform.seed = own["seed"]
        transform.random_generator.bit_generator.state = json.loads(own["numpy"])
        _set_python_state(transform.py_random, own["python"])


def mosaic_is_open(dataset: Any) -> bool:
    """Return whether pictures are still put together as mosaics, which Ultralytics ends some epochs before the last."""
    transforms = _all(getattr(dataset, "transforms", None))
    return any(type(transform).__name__ == "Mosaic" and transform.p > 0 for transform in transforms)


def _with_generators(transform: Any) -> Iterator[Any]:
    """Yield every transform of a tree that has generators of its own, as those of Albumentations have."""
    return (inner for inner in _all(transform) if hasattr(inner, "random_generator") and hasattr(inner, "py_random"))


def _all(transform: Any) -> Iterator[Any]:
    """Yield every transform of a tree."""
    if transform is None or isinstance(transform, (str, int, float)):
        return
    yield transform
    for inner in (getattr(transform, "transform", None), *(getattr(transform, "transforms", None) or ())):
        yield from _all(inner)


def _python_state(source: Any) -> list[Any]:
    import torch

    version, numbers, gauss = source.getstate()
    return [version, torch.tensor(numbers), gauss]


def _set_python_state(source: Any, state: Any) -> None:
    version, numbers, gauss = state
    source.setstate((version, tuple(numbers.tolist()), gauss))
