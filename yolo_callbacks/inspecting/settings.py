"""Ultralytics' settings, read without importing it, which takes seconds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def ultralytics_setting(name: str) -> Path | None:
    """Return a directory from Ultralytics' settings, such as `runs_dir`; None if there are none yet."""
    try:
        settings = json.loads((_settings_folder() / "Ultralytics" / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    value = settings.get(name) if isinstance(settings, dict) else None
    return Path(value) if isinstance(value, str) and value else None


def runs_dir() -> Path:
    """Return where Ultralytics puts runs: `runs_dir` of its settings, else `runs` in the current directory."""
    here = Path("runs")
    return here if here.is_dir() else ultralytics_setting("runs_dir") or here


def _settings_folder() -> Path:
    """Return the folder in which Ultralytics keeps its own, as its `get_user_config_dir` finds it."""
    if given := os.environ.get("YOLO_CONFIG_DIR"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Roaming"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
