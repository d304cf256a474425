"""Export formats, the packages that they need, and export arguments; all checked before training starts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from yolo_callbacks.support.checks import check_choice, nearest, quoted
from yolo_callbacks.support.numbers import plain

FOLDER = "export"
"""The folder of exports and their report in the run directory."""

REDUCED_PRECISION = ("quantize", "half", "int8")
"""Arguments that make an exported file less precise than its checkpoint."""

# Packages that the common formats need to be written and to be loaded again.
_NEEDS = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "engine": ("tensorrt",),
    "coreml": ("coremltools",),
    "mnn": ("MNN",),
    "ncnn": ("ncnn",),
}
_ONLY_TO_VERIFY = ("onnxruntime",)
_INSTALLED_TOGETHER = {"onnx": "onnx onnxslim onnxruntime"}  # else the next missing one is reported an hour later
_NOT_FOR_USERS = ("format", "mode", "model", "task", "project", "save_dir")
_NEVER_REFUSED = {"conf", "iou", "name", "quantize", "nms"}  # or Ultralytics refuses them with a better message
_FORMER_NAMES = ("half", "int8", "end2end")  # Ultralytics still accepts them


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the formats without duplicates.

    Raises:
        ValueError: If Ultralytics cannot export one of them.
    """
    allowed = [name for name in _table()["Argument"] if name != "-"]
    return tuple(dict.fromkeys(check_choice("export", name, allowed) for name in formats))


def check_packages(formats: Iterable[str], *, to_verify: bool) -> None:
    """Make sure, before the training, that the packages of the formats are installed.

    Args:
        formats: The formats.
        to_verify: Whether the exported files will be loaded again.

    Raises:
        ImportError: If one is missing; the message has the command that installs it.
    """
    for name in formats:
        for package in _NEEDS.get(name, ()):
            wanted = to_verify or package not in _ONLY_TO_VERIFY
            if wanted and importlib.util.find_spec(package) is None:
                raise ImportError(install_hint(name, package))


def install_hint(export_format: str, package: str) -> str:
    """Return the message for a missing package, with the command that installs it."""
    what = _INSTALLED_TOGETHER.get(export_format, package)
    return f"export='{export_format}' needs {package}: pip install {what}"


def check_export_args(arguments: object, formats: tuple[str, ...]) -> dict[str, Any]:
    """Return the export arguments if Ultralytics knows each and at least one of the formats takes it.

    Raises:
        TypeError: If they are not a mapping, or not JSON-serializable, since they go to another process.
        ValueError: If one is unknown, not for users to set, or not taken by any of the formats.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    if not isinstance(arguments, Mapping):
        raise TypeError(f"export_args={quoted(arguments)} must be a mapping such as {{'dynamic': True}}")
    known = [*(key for key in DEFAULT_CFG_DICT if key not in _NOT_FOR_USERS), *_FORMER_NAMES]
    for key in arguments:
        if key not in known:
            raise ValueError(
                f"export_args={quoted(arguments)}: {quoted(key)} is not an export argument{nearest(key, known)}"
            )
        if formats and not any(takes(name, key) for name in formats):
            raise ValueError(f"export_args={quoted(arguments)}: export={quoted(formats)} does not take {quoted(key)}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=_encode))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"export_args={quoted(arguments)} must be JSON-serializable: {error}") from None
    return plain


def _encode(value: object) -> object:
    number = plain(value)
    if number is value:
        raise TypeError(f"{quoted(value)} is not a number, string or list")
    return number


def exported_file(checkpoint: str, export_format: str) -> str:
    """Return the path of an exported checkpoint in the run directory; all are in one folder."""
    return f"{FOLDER}/{expected_name(PurePath(checkpoint).name, export_format)}"


def expected_name(checkpoint: str, export_format: str) -> str:
    """Return the expected file name of an exported checkpoint."""
    table = _table()
    suffix = dict(zip(table["Argument"], table["Suffix"]))[export_format]
    return f"{checkpoint.removesuffix('.pt')}{suffix}"


def takes(export_format: str, argument: str) -> bool:
    """Return whether a format takes an argument; Ultralytics refuses some that a format does not list."""
    table = _table()
    some = {name for names in table["Arguments"] for name in names} - _NEVER_REFUSED
    return argument not in some or argument in dict(zip(table["Argument"], table["Arguments"]))[export_format]


def _table() -> dict[str, tuple[Any, ...]]:
    from ultralytics.engine.exporter import export_formats

    table: dict[str, tuple[Any, ...]] = export_formats()
    return table
