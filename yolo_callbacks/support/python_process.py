"""Python processes beside the training: which interpreter, which modules, and shielded from the terminal's Ctrl-C."""

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
"""Arguments of `subprocess` that shield a process from a Ctrl-C in the terminal, which is meant for the training."""


def command(module: str, *arguments: str) -> list[str]:
    """Return `python -m yolo_callbacks.<module> ARGUMENT ...` for the interpreter that runs here.

    Raises:
        RuntimeError: If no interpreter is known: in a frozen program (PyInstaller and the like) the executable is the
            program itself, and running it would start the program again.
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
            "this program is frozen, so it has no Python interpreter to start: "
            "set one that has yolo-callbacks installed with multiprocessing.set_executable(path)"
        )
    return executable
