"""Checks of arguments: a failure is one sentence that names the bad value, the allowed ones and the nearest match."""

from __future__ import annotations

import math
import re
import reprlib
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from yolo_callbacks.support.numbers import plain

_LONGEST = 200  # characters of a value in a message
_LONGEST_NAME = 255  # bytes of a file name on common file systems


_BRIEFLY = reprlib.Repr()  # nested lists of shared lists, as YAML can write them, have reprs without end
_BRIEFLY.maxlevel, _BRIEFLY.maxlist, _BRIEFLY.maxtuple, _BRIEFLY.maxset, _BRIEFLY.maxdict = 4, 12, 12, 12, 12
_BRIEFLY.maxstring = _BRIEFLY.maxlong = _BRIEFLY.maxother = 2 * _LONGEST


class SettingError(ValueError):
    """A callback needs something that this run does not have; raised before the first epoch, in words for users."""


def nearest(name: object, allowed: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` with the closest allowed name, or an empty string if none is close.

    Example:
        >>> nearest("patiense", ["patience", "monitor"])
        " (did you mean 'patience'?)"
    """
    if not isinstance(name, str):
        return ""
    by_lower = {option.lower(): option for option in allowed}
    matches = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[matches[0]]}'?)" if matches else ""


def quoted(value: object) -> str:
    """Return a value's `repr` for a message: in one line, shortened, and never an error of its own.

    Example:
        >>> quoted(["a", 1]), quoted(10**5000)
        ("['a', 1]", '<int>')
    """
    try:
        text = " ".join(line.strip() for line in _BRIEFLY.repr(value).splitlines())
        text = re.sub(r"<(\w+) instance at 0x\w+>", r"<\1>", text)  # how reprlib shows what has no repr
    except Exception:  # huge ints have none, and a user's class may raise anything
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 4 :]}"


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        ValueError: If it is not.
    """
    options = list(allowed)
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name}={quoted(value)} is not one of {listed}{nearest(value, options)}")
    return value


def items_of(value: object) -> list[Any] | None:
    """Return what can be listed as a list; None for anything else.

    Example:
        >>> items_of(("a", "b")), items_of(5)
        (['a', 'b'], None)
    """
    try:
        return list(value) if isinstance(value, Iterable) else None
    except Exception:  # an array without a dimension, or a user's generator
        return None


def check_names(name: str, value: object, meant: str, *, one: bool = False) -> list[str]:
    """Return a list of strings.

    Args:
        name: The argument's name, for the message.
        value: The value to check.
        meant: What it must be, for the message.
        one: Whether a single string is accepted, as a list of one.

    Raises:
        TypeError: If it is not a list of strings.

    Example:
        >>> check_names("classes", ("car", "bus"), "a list of names")
        ['car', 'bus']
    """
    items = ([value] if one else None) if isinstance(value, str) else value
    names = items_of(items)
    if names is None or not all(isinstance(item, str) for item in names):
        raise TypeError(f"{name}={quoted(value)} must be {meant}")
    return names


def check_bool(name: str, value: object) -> bool:
    """Return `value` if it is a bool.

    Raises:
        TypeError: If it is not.
    """
    flag = plain(value)
    if not isinstance(flag, bool):
        raise TypeError(f"{name}={quoted(value)} must be True or False, not {_type_name(value)}")
    return flag


def check_verbose(value: object) -> int:
    """Return `verbose` as an int of at least 0; as in Keras, False is 0 and True is 1.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is negative.
    """
    value = plain(value)
    return check_int("verbose", int(value) if isinstance(value, bool) else value, minimum=0)


def check_int(name: str, value: object, *, minimum: int) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`.

    Raises:
        TypeError: If it is not an int.
        ValueError: If it is below the minimum, or larger than Python's containers can be.
    """
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name}={quoted(value)} must be a whole number >= {minimum}, not {_type_name(value)}")
    if number < minimum:
        raise ValueError(f"{name}={quoted(value)} must be >= {minimum}")
    if number > sys.maxsize:
        raise ValueError(f"{name}={quoted(value)} must be <= {sys.maxsize}")
    return number


def check_number(
    name: str,
    value: object,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclusive: bool = False,
) -> float:
    """Return `value` as a float if it is a finite number between the bounds.

    Args:
        name: The argument's name, for the message.
        value: The value to check.
        minimum: The smallest allowed value.
        maximum: The largest allowed value.
        exclusive: If True, the bounds themselves are not allowed.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not finite or out of bounds.
    """
    allowed = _bounds(minimum, maximum, exclusive)
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name}={quoted(value)} must be a number{allowed}, not {_type_name(value)}")
    inside = minimum < number < maximum if exclusive else minimum <= number <= maximum
    try:
        finite = math.isfinite(number)
    except OverflowError:  # an int that no float can hold
        finite = False
    if not finite or not inside:
        raise ValueError(f"{name}={quoted(value)} must be a finite number{allowed}")
    return float(number)


def as_number(what: str, value: object) -> int | float:
    """Return a measured number as a Python int or float; it may be NaN or infinite.

    Args:
        what: What to call it in the message.
        value: The number.

    Raises:
        TypeError: If it is not a number.
    """
    number = plain(value)
    if isinstance(number, (int, float)):
        return number
    try:
        return float(number)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{what} is {quoted(value)}, but it must be a number, not {_type_name(value)}") from None


def check_file_name(name: str, value: object, *, suffix: str) -> str:
    """Return `value` if it is a file name without a folder that ends in `suffix`.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it names a folder or has another suffix.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={quoted(value)} must be a file name such as 'name{suffix}', not {_type_name(value)}")
    if not value.endswith(suffix) or value == suffix or any(c in value for c in "/\\"):
        raise ValueError(f"{name}={quoted(value)} must be a bare file name that ends in '{suffix}'")
    return check_path(name, value)


def check_path(name: str, value: str) -> str:
    """Return a path if a file system can have it.

    Raises:
        ValueError: If it has control characters, half of a character pair, or a part that is too long.
    """
    try:
        parts = re.split(r"[/\\]", value.encode().decode())
    except UnicodeEncodeError:
        parts = ["\0"]
    if any(ord(c) < ord(" ") for part in parts for c in part):
        raise ValueError(f"{name}={quoted(value)} has characters that no file name can have")
    if any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise ValueError(f"{name}={quoted(value)} is too long for a file name: at most {_LONGEST_NAME} bytes")
    return value


def _bounds(minimum: float, maximum: float, exclusive: bool) -> str:
    below, above = ("> ", "< ") if exclusive else (">= ", "<= ")
    parts = [below + f"{minimum:g}"] if minimum > -math.inf else []
    parts += [above + f"{maximum:g}"] if maximum < math.inf else []
    return " " + " and ".join(parts) if parts else ""


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__
