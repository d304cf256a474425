"""Layers and parameters of a model by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from yolo_callbacks.support.checks import SettingError, nearest
from yolo_callbacks.support.numbers import plain

MOST_LAYERS = 64
"""The largest number of layers that can be watched at once."""


def parameter_parts(trainer: Any) -> dict[str, str]:
    """Return the part of the model that each parameter belongs to.

    Parts are `backbone`, `neck` and `head` if the model is built from Ultralytics' YAML (the head is its last layer,
    the neck is between), otherwise the names of the top-level modules.
    """
    model = unwrapped(trainer.model)
    core, prefix = _core(model)
    yaml = getattr(core, "yaml", None)
    backbone, last = (len(yaml.get("backbone") or ()), len(core.model) - 1) if isinstance(yaml, dict) else (0, 0)
    layer = re.compile(rf"{re.escape(prefix)}model\.(\d+)\.")

    def part(name: str) -> str:
        found = layer.match(name)
        if not backbone or found is None:
            return name.partition(".")[0]
        number = int(found[1])
        return "head" if number == last else "backbone" if number < backbone else "neck"

    return {name: part(name) for name, _ in model.named_parameters()}


def trainable_parameters(trainer: Any) -> tuple[str, ...]:
    """Return the names of the parameters that are currently trained."""
    return tuple(name for name, parameter in unwrapped(trainer.model).named_parameters() if parameter.requires_grad)


def is_compiled(trainer: Any) -> bool:
    """Return whether the model uses torch.compile, which ignores hooks that are added later."""
    model = trainer.model
    return any(hasattr(module, "_orig_mod") for module in (model, getattr(model, "module", None)))


def find_layers(trainer: Any, wanted: Sequence[str | int] | None) -> tuple[str, ...]:
    """Return the names of layers; see `ModelView.find_layers`."""
    model = unwrapped(trainer.model)
    core, prefix = _core(model)
    if wanted is None:
        numbers = _inputs_of_head(core)
        if not numbers:
            raise SettingError("the layers before this model's head are unknown: name the layers to watch")
        return tuple(f"{prefix}model.{number}" for number in numbers)
    places: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(name)
    shared = {name: len(same) for same in places.values() if len(same) > 1 for name in same}
    names = [name for same in places.values() for name in same if name]
    found: dict[str, None] = {}
    for item in map(plain, wanted):
        matches = _numbered(core, prefix, item) if isinstance(item, int) else _matching(item, names)
        alone = [name for name in matches if name not in shared]
        if not alone:
            raise SettingError(
                f"{matches[0]!r} is one module in {shared[matches[0]]} places of this model, so its outputs cannot be "
                "told apart: watch the layer that contains it"
            )
        found.update(dict.fromkeys(alone))
    if len(found) > MOST_LAYERS:
        raise SettingError(f"{len(found)} layers match {list(wanted)!r}, but at most {MOST_LAYERS} can be watched")
    return tuple(found)


def _numbered(core: Any, prefix: str, number: int) -> list[str]:
    layers = len(core.model) if hasattr(core, "model") else 0
    if not -layers <= number < layers:
        raise SettingError(f"layer {number} is not a layer of this model, which has {layers}: 0 to {layers - 1}")
    return [f"{prefix}model.{number % layers}"]


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    matches = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
    if not matches:
        raise SettingError(
            f"{pattern!r} is not a layer of this model{nearest(pattern, names)}; layers are {', '.join(names[:3])}, ..."
        )
    return matches


def _inputs_of_head(core: Any) -> list[int]:
    """Return the numbers of the layers that feed the last one."""
    layers: Any = getattr(core, "model", ())
    sources = getattr(layers[-1], "f", ()) if hasattr(layers, "__getitem__") and len(layers) else ()
    numbers = [sources] if isinstance(sources, int) else list(sources)
    return [number if number >= 0 else len(layers) - 1 + number for number in numbers]


def _core(model: Any) -> tuple[Any, str]:
    """Return the trained model and the prefix of its parameters' names: distillation wraps it."""
    student = getattr(model, "student_model", None)
    return (model, "") if student is None else (student, "student_model.")


def unwrapped(model: Any) -> Any:
    """Return a model without the wrappers of DDP and torch.compile."""
    from ultralytics.utils.torch_utils import unwrap_model

    return unwrap_model(model)
