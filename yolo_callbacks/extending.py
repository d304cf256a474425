"""extend(): more epochs for a run, after its end, an early stop or an interruption."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from yolo_callbacks.attachment import Attachment, attach
from yolo_callbacks.choosing import Callbacks, resolve
from yolo_callbacks.config import ConfigError, restore_callbacks
from yolo_callbacks.core.extension import DEFAULT_SCHEDULE
from yolo_callbacks.run_dir.extending import prepare_extension
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.run_dir.recovery import run_directory
from yolo_callbacks.support.checks import check_int
from yolo_callbacks.support.log import LOGGER


def extend(
    run: str | os.PathLike[str],
    epochs: int,
    *,
    schedule: str = DEFAULT_SCHEDULE,
    callbacks: Callbacks = None,
    **arguments: Any,
) -> Attachment:
    """Train a run for more epochs, after its end, an early stop or an interruption. One history goes on.

    It continues from the newest checkpoint that has kept its optimizer; epochs after that one are abandoned, and the
    log says so. What the extension overwrites is kept in `before-extension` in the run directory. See
    docs/more-epochs.md.

    Args:
        run: The run directory, or one of its checkpoints.
        epochs: Number of epochs to add, >= 1: after the epoch that it continues from, or, if the run was interrupted,
            to its planned epochs.
        schedule: What the learning rate does. `"continue"`: Ultralytics' own schedule, recomputed for the new number of
            epochs. `"hold"`: the rate of the last epoch; mosaic stays closed. `"rewarm"`: up to the initial rate
            within the warm-up epochs, then down again. Defaults to `"rewarm"`.
        callbacks: As for `attach`; None for those of the run. Defaults to None.
        **arguments: What Ultralytics lets a resumed run change: `batch`, `device`, `workers`, `patience`, ...

    Returns:
        The attachment of the training: history, decisions, `save_dir`, and why it stopped. The model is
        `attachment.save_dir / "weights" / "best.pt"`.

    Raises:
        ValueError: If the run cannot be extended, with what to do instead; or if an argument is out of range.
        FileNotFoundError: If no checkpoint of an interrupted run can be resumed.
        ConfigError: If the run's callbacks cannot be restored: pass `callbacks`.

    Example:
        ```python
        run = ycb.extend("runs/detect/train", epochs=50)
        print(run.history["metrics/mAP50-95(B)"].max())
        ```
    """
    from ultralytics import YOLO

    more, folder = check_int("epochs", epochs, minimum=1), Path(run)
    if "resume" in arguments:
        raise ValueError("extend() chooses the checkpoint itself: leave out resume")
    chosen = resolve(callbacks if callbacks is not None else _callbacks_of(run_directory(folder)))
    ready = prepare_extension(folder, more=more, schedule=schedule)
    LOGGER.info(str(ready))
    model = YOLO(ready.checkpoint.path)
    attachment = attach(model, chosen)
    model.train(**{"save_dir": str(ready.checkpoint.folder.absolute()), **arguments, "resume": True})
    return attachment


def _callbacks_of(folder: Path) -> Callbacks:
    """Return the callbacks of a run; the defaults if it does not record any.

    Raises:
        ConfigError: If they cannot be restored.
    """
    configuration = manifest_of(folder).get("callbacks")
    if not configuration:
        LOGGER.info(f"{folder} does not record its callbacks: using the defaults")
        return None
    try:
        return restore_callbacks(configuration)
    except ConfigError as error:
        raise ConfigError(f"the callbacks of {folder} cannot be restored ({error}): pass callbacks=[...]") from error
