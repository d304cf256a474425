"""Checks that the fields of a dataclass read from a file have the types that they are annotated with."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from yolo_callbacks.support.checks import quoted

T = TypeVar("T")


def checked_fields(item: T) -> T:
    """Return a dataclass's instance if its fields, and what mappings and tuples in them hold, have their types.

    Raises:
        TypeError: If one has another type, as in a damaged file.
    """
    cls: Any = type(item)
    for name, (types, inner) in _types_of(cls).items():
        value = getattr(item, name)
        if not _fits(value, types) or (inner and value and not all(_fits(part, inner) for part in _parts(value))):
            raise TypeError(f"{name} is {quoted(value)}")
    return item


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value


def _fits(value: object, types: tuple[Any, ...]) -> bool:
    if isinstance(value, int) and float in types:
        return True
    if isinstance(value, int) and bool not in types:
        return int in types and not isinstance(value, bool) and abs(value) <= sys.maxsize
    return isinstance(value, types)


@cache
def _types_of(cls: Any) -> dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Return the types of each field, and those of its parts if it is a mapping or a tuple."""
    hints = get_type_hints(cls)
    found = {}
    for field in fields(cls):
        hint = hints[field.name]
        members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        parts = [part for member in members for part in get_args(member) if part is not Ellipsis]
        found[field.name] = tuple(get_origin(member) or member for member in members), tuple(parts[-1:])
    return found
