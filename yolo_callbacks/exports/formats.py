"""What can be asked of an export: formats, the packages they need, arguments. It is checked before a training."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from yolo_callbacks.support.checks import check_choice, nearest
from yolo_callbacks.support.numbers import plain

FOLDER = "export"
"""Where exports and their report lie in the run directory."""

# What the common formats cannot do without: to be written, and to be loaded again.
_NEEDS = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "engine": ("tensorrt",),
    "coreml": ("coremltools",),
    "mnn": ("MNN",),
    "ncnn": ("ncnn",),
}
_ONLY_TO_VERIFY = ("onnxruntime",)
_INSTALLED_TOGETHER = {"onnx": "onnx onnxslim onnxruntime"}  # so that the next one is not told an hour later
_NOT_FOR_USERS = ("format", "mode", "model", "task", "project", "save_dir")
_REFUSED_BY_NONE = {"conf", "iou", "name", "quantize", "nms"}  # or with a better message than ours
_FORMER_NAMES = ("half", "int8", "end2end")  # Ultralytics still takes them


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the formats, each once, if Ultralytics can export each of them.

    Raises:
        ValueError: If it cannot.
    """
    allowed = [name for name in _table()["Argument"] if name != "-"]
    return tuple(dict.fromkeys(check_choice("export", name, allowed) for name in formats))


def check_packages(formats: Iterable[str], *, to_verify: bool) -> None:
    """Make sure, while there is time to install it, that what the formats need is there.

    Args:
        formats: The formats.
        to_verify: Whether the exported files are to be loaded again.

    Raises:
        ImportError: If it is not; the message has the line that installs it.
    """
    for name in formats:
        for package in _NEEDS.get(name, ()):
            wanted = to_verify or package not in _ONLY_TO_VERIFY
            if wanted and importlib.util.find_spec(package) is None:
                raise ImportError(install_hint(name, package))


def install_hint(export_format: str, package: str) -> str:
    """Return the one line that says how to get a package."""
    what = _INSTALLED_TOGETHER.get(export_format, package)
    return f"export='{export_format}' needs {package}: pip install {what}"


def check_export_args(arguments: object, formats: tuple[str, ...]) -> dict[str, Any]:
    """Return further arguments of an export if Ultralytics knows them, and one of the formats takes each.

    Raises:
        TypeError: If they are no mapping, or JSON cannot hold them: they go to another process.
        ValueError: If one is unknown, not for the user to choose, or nothing that any of the formats takes.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    if not isinstance(arguments, Mapping):
        raise TypeError(f"export_args={arguments!r} must be a mapping such as {{'dynamic': True}}")
    known = [*(key for key in DEFAULT_CFG_DICT if key not in _NOT_FOR_USERS), *_FORMER_NAMES]
    for key in arguments:
        if key not in known:
            raise ValueError(f"export_args={arguments!r}: '{key}' is no argument of an export{nearest(key, known)}")
        if formats and not any(takes(name, key) for name in formats):
            raise ValueError(f"export_args={arguments!r}: export={formats!r} takes no '{key}'")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=_spell))
    except (TypeError, ValueError) as error:
        raise TypeError(f"export_args={arguments!r} must be what JSON can hold: {error}") from None
    return plain


def _spell(value: object) -> object:
    number = plain(value)
    if number is value:
        raise TypeError(f"{value!r} is no number, text or list")
    return number


def exported_file(checkpoint: str, export_format: str) -> str:
    """Return where an exported checkpoint lies in the run directory: all of them in one folder, by their bare names."""
    return f"{FOLDER}/{expected_name(PurePath(checkpoint).name, export_format)}"


def expected_name(checkpoint: str, export_format: str) -> str:
    """Return the name that an exported checkpoint gets, as far as it is known before."""
    table = _table()
    suffix = dict(zip(table["Argument"], table["Suffix"]))[export_format]
    return f"{checkpoint.removesuffix('.pt')}{suffix}"


def takes(export_format: str, argument: str) -> bool:
    """Return whether a format takes an argument: Ultralytics refuses some where a format does not list them."""
    table = _table()
    some = {name for names in table["Arguments"] for name in names} - _REFUSED_BY_NONE
    return argument not in some or argument in dict(zip(table["Argument"], table["Arguments"]))[export_format]


def _table() -> dict[str, tuple[Any, ...]]:
    from ultralytics.engine.exporter import export_formats

    table: dict[str, tuple[Any, ...]] = export_formats()
    return table
