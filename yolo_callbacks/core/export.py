"""Export of a finished checkpoint with Ultralytics' own exporter, so that a failure never loses the run."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_callbacks.core import storage
from yolo_callbacks.core.checks import check_choice
from yolo_callbacks.core.log import LOGGER, without_chatter

# What the common formats cannot do without, so that a missing package is told before the training and not after it.
_NEEDS = {
    "onnx": "onnx",
    "openvino": "openvino",
    "engine": "tensorrt",
    "coreml": "coremltools",
    "mnn": "MNN",
    "ncnn": "ncnn",
}


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the formats if Ultralytics can export each of them.

    Raises:
        ValueError: If it cannot.
    """
    from ultralytics.engine.exporter import export_formats

    allowed = [name for name in export_formats()["Argument"] if name != "-"]
    return tuple(check_choice("export", name, allowed) for name in formats)


def missing_package(export_format: str) -> str | None:
    """Return the one line that says what a format needs that is not installed, None if nothing is known to miss."""
    package = _NEEDS.get(export_format)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return install_hint(export_format, package)


def install_hint(export_format: str, package: str) -> str:
    """Return the one line that says how to get a package."""
    needed = "onnx onnxslim onnxruntime" if package in ("onnx", "onnxslim", "onnxruntime") else package
    return f"export='{export_format}' needs {package}: pip install {needed}"


def export_checkpoint(
    checkpoint: Path, folder: Path, export_format: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Export a checkpoint into a folder.

    Args:
        checkpoint: What to export; it is only read.
        folder: Where the exported file, or folder, goes.
        export_format: One of Ultralytics' formats.
        arguments: Further arguments of `YOLO.export`.

    Returns:
        An item for `run.json`: the format, and either the file with its size and SHA-256, or the error.
    """
    try:
        result = _export(checkpoint, folder, export_format, arguments)
    except ModuleNotFoundError as error:
        return _failed(checkpoint, export_format, install_hint(export_format, error.name or str(error)))
    except Exception as error:  # whatever goes wrong in an exporter, the training that it follows must not be lost
        return _failed(checkpoint, export_format, f"export='{export_format}' failed: {type(error).__name__}: {error}")
    LOGGER.info(f"Exported {checkpoint.name} to {result}")
    item: dict[str, Any] = {"format": export_format, "file": result.name, "from": checkpoint.name}
    if result.is_file():
        size, digest = storage.fingerprint(result)
        item.update(bytes=size, sha256=digest)
    return item


def _failed(checkpoint: Path, export_format: str, why: str) -> dict[str, Any]:
    LOGGER.warning(f"{why} ({checkpoint} itself is safe)")
    return {"format": export_format, "from": checkpoint.name, "error": why}


def _export(checkpoint: Path, folder: Path, export_format: str, arguments: Mapping[str, Any]) -> Path:
    """Export a copy in a scratch folder, since the exporter writes beside its input, and move the result."""
    from ultralytics import YOLO

    scratch = folder / ".scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        source = storage.copy(checkpoint, scratch / checkpoint.name).path
        with _no_installing(), without_chatter():
            exported = Path(YOLO(source).export(**{**arguments, "format": export_format}))
        target = folder / exported.name
        if target.is_dir():
            shutil.rmtree(target)
        shutil.move(exported, target)
        return target
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _no_installing() -> Iterator[None]:
    """Keep Ultralytics from running pip in the user's environment at the end of a training."""
    from ultralytics.utils import checks

    before = checks.AUTOINSTALL
    checks.AUTOINSTALL = False
    try:
        yield
    finally:
        checks.AUTOINSTALL = before
