"""Ultralytics' settings, data and runs in a separate folder, so that a benchmark leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SMALL = {"imgsz": 96, "batch": 16, "fraction": 0.25, "device": "cpu", "plots": False, "verbose": False}
"""Arguments of the measured training: short epochs, in which the cost of callbacks shows."""

_INTEGRATIONS = ("tensorboard", "mlflow", "wandb", "comet", "clearml", "dvc", "neptune", "raytune", "hub", "sync")
_SETTINGS = """
import sys
from pathlib import Path
from ultralytics import settings

folder, integrations = Path(sys.argv[1]), sys.argv[2:]
places = {name: str(folder / name) for name in ("datasets_dir", "weights_dir", "runs_dir")}
settings.update(places | {name: False for name in integrations if name in settings})
"""


def private(folder: Path) -> dict[str, str]:
    """Create settings with all integrations switched off.

    Args:
        folder: For the settings, data and runs.

    Returns:
        The environment for a process that imports ultralytics.
    """
    environment = {name: value for name, value in os.environ.items() if name != "ULTRALYTICS_API_KEY"}
    environment["YOLO_CONFIG_DIR"] = str(folder)
    # Ultralytics reads the dataset folder from its settings on import, so a separate process writes them
    subprocess.run(
        [sys.executable, "-c", _SETTINGS, str(folder), *_INTEGRATIONS],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return environment
