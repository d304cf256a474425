"""Python processes beside the training: which Python, with which modules, and out of reach of the terminal's Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

APART: Mapping[str, Any] = (
    {"start_new_session": True}
    if os.name == "posix"
    else {
        "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    }
)
"""Arguments of `subprocess` that keep a Ctrl-C in the terminal, which is meant for the training, from a process."""


def command(module: str, *arguments: str) -> list[str]:
    """Return `python -m yolo_callbacks.<module> ARGUMENT ...` with the Python that runs here.

    Raises:
        RuntimeError: If no Python is known: in a frozen program (PyInstaller and the like) the executable is the
            program itself, and would start it once more.
    """
    return [_python(), "-m", f"yolo_callbacks.{module}", *arguments]


def environment() -> dict[str, str]:
    """Return an environment in which a process finds the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)}


def _python() -> str:
    from multiprocessing.spawn import get_executable

    executable = os.fsdecode(get_executable() or "")
    if not executable or (getattr(sys, "frozen", False) and executable == sys.executable):
        raise RuntimeError(
            "this program is frozen, so there is no Python to start: "
            "name one that has yolo-callbacks with multiprocessing.set_executable(path)"
        )
    return executable
