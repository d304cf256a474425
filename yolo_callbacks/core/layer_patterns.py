"""Patterns of layer names, and the parameters that they select in a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Union

from yolo_callbacks.support.checks import SettingError, check_int, nearest, quoted
from yolo_callbacks.support.numbers import plain

LayerChoice = Union[int, str, Sequence[Union[int, str]], None]
"""What users pass: None for the backbone, a number of first layers, or names and indices of layers."""

Layers = Union[tuple[str, ...], None]
"""The same as patterns of parameter or module names; a module stands for everything in it. None for the backbone."""

_MOST = 10_000  # top-level layers; each becomes a pattern


@dataclass(frozen=True)
class LayerNames:
    """The names of a model's parts, in order.

    Attributes:
        parameters: Names of its parameters.
        modules: Names of its modules.
        backbone: Names of the modules of its backbone; empty if unknown.
    """

    parameters: tuple[str, ...]
    modules: tuple[str, ...] = ()
    backbone: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the top-level layers: `model.0`, `model.1`, ... in a YOLO model."""
        depth = 1
        while True:
            found = tuple(name for name in self.modules if name.count(".") == depth - 1)
            if len(found) != 1:
                return found
            depth += 1


def check_layers(value: object) -> Layers:
    """Return a choice of layers as patterns.

    Args:
        value: None for the backbone; a whole number n >= 1 for the first n layers, as in Ultralytics' `freeze`; a
            pattern; or a list of patterns and layer indices.

    Raises:
        TypeError: If it is something else.
        ValueError: If it is empty or negative.

    Example:
        >>> check_layers(2), check_layers([9, "model.23.cv*"])
        (('model.0', 'model.1'), ('model.9', 'model.23.cv*'))
    """
    if value is None:
        return None
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value > _MOST:
            raise ValueError(f"layers={quoted(value)} is more layers than a model has")
        return tuple(f"model.{index}" for index in range(check_int("layers", value, minimum=1)))
    items = [value] if isinstance(value, str) else value
    items = [plain(item) for item in items] if isinstance(items, Sequence) else items
    if not isinstance(items, Sequence) or any(
        isinstance(item, bool) or not isinstance(item, (int, str)) for item in items
    ):
        raise TypeError(
            f"layers={quoted(value)} must be None for the backbone, a number of layers, or a list of names "
            f"such as 'model.9'"
        )
    if not items or any(not 0 <= item <= _MOST if isinstance(item, int) else not item.strip(".") for item in items):
        raise ValueError(
            f"layers={quoted(value)} must name at least one layer, such as 'model.9' or 9, and nothing empty"
        )
    return tuple(f"model.{item}" if isinstance(item, int) else item.rstrip(".") for item in items)


def layers_in_words(layers: Layers) -> str:
    """Return a few words for layers.

    Example:
        >>> layers_in_words(None), layers_in_words(("model.0", "model.1")), layers_in_words(tuple("abcd"))
        ('backbone', 'model.0, model.1', 'a ... d')
    """
    if layers is None:
        return "backbone"
    return ", ".join(layers) if len(layers) < 4 else f"{layers[0]} ... {layers[-1]}"


def select(layers: Layers, names: LayerNames) -> frozenset[str]:
    """Return the names of the selected parameters.

    Args:
        layers: The patterns, with `*`, `?` and `[]` as in file names; None for the backbone.
        names: The names of the model's parts.

    Raises:
        ValueError: If a pattern matches nothing, or only modules without parameters.

    Example:
        >>> sorted(select(("model.0", "*.bias"), LayerNames(("model.0.weight", "model.1.weight", "model.1.bias"))))
        ['model.0.weight', 'model.1.bias']
    """
    if layers is None and not names.backbone:
        raise SettingError(
            "layers=None means the backbone of the model's YAML, and this model has none: name its layers, which are "
            f"{_listed(names.layers)}"
        )
    inside = {name: tuple(_and_its_modules(name)) for name in names.parameters}
    known = dict.fromkeys((*names.modules, *(part for parts in inside.values() for part in parts)))
    chosen: set[str] = set()
    for pattern in names.backbone if layers is None else layers:
        found = {pattern} if pattern in known else {name for name in known if fnmatchcase(name, pattern)}
        if not found:
            raise SettingError(
                f"'{pattern}' is no layer or parameter of the model{nearest(pattern, known)}; its layers are "
                f"{_listed(names.layers)}"
            )
        chosen |= found
    selected = frozenset(name for name, parts in inside.items() if not chosen.isdisjoint(parts))
    if not selected:
        raise SettingError(f"there is nothing to learn in {layers_in_words(layers)}: choose layers with parameters")
    return selected


def _and_its_modules(name: str) -> Iterator[str]:
    """Yield the name of a parameter, and of each module that contains it."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
