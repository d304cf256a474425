"""Finding: one thing that is wrong with a run, and the names of the columns in which findings are made. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "system/"
DATA_WAIT, DATA, STEP = f"{PREFIX}data_wait", f"{PREFIX}data_seconds", f"{PREFIX}step_seconds"
VALIDATION, SAVE = f"{PREFIX}validation_seconds", f"{PREFIX}save_seconds"
IMAGES = f"{PREFIX}images_per_second"
PROCESS, WORKERS, GPU = f"{PREFIX}rss_gb", f"{PREFIX}workers_rss_gb", f"{PREFIX}gpu_allocated_gb"
GPU_USE = f"{PREFIX}gpu_utilization"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run.

    Attributes:
        kind: What it is about: a part of the epoch, or a column.
        epoch: The epoch after which it was found.
        level: How bad it is: a share in [0, 1], or GiB per epoch.
        message: One sentence for people.
    """

    kind: str
    epoch: int
    level: float
    message: str
