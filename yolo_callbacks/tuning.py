"""Callbacks in the trials of `model.tune()`; `python -m yolo_callbacks.tuning CONFIG train ...` runs one trial."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_callbacks.config import load_config
from yolo_callbacks.support import python_process


@contextmanager
def callbacks_in_trials(config: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Train the trials of `model.tune()` with callbacks.

    Ultralytics runs each trial in a subprocess, which Python callbacks do not reach. Within this context the
    subprocess runs `yolo-cb train` with the callbacks of a YAML file, so your own functions and classes are not
    available in trials. With `use_ray=True`, Ray runs the trials, and this context has no effect.

    Args:
        config: Path of a YAML file that lists the callbacks, as for `load_config`; None for `default_callbacks()`.

    Raises:
        ConfigError: If the file cannot be read, or anything in it is wrong.

    Example:
        ```python
        with ycb.callbacks_in_trials("callbacks.yaml"):
            model.tune(data="coco8.yaml", epochs=30, iterations=100)
        ```
    """
    if config is not None:
        load_config(config)
    from ultralytics.cfg import _YOLO_CLI_COMMAND as command

    before = list(command)
    path = "" if config is None else str(Path(config).resolve())
    command[:] = python_process.command("tuning", path)  # in place, because others have imported the list
    try:
        yield
    finally:
        command[:] = before


def _train(config: str, *words: str) -> int:
    from yolo_callbacks.cli.train import TrainRequest, train_command

    request = TrainRequest(
        data=None,
        model=None,
        epochs=None,
        config=Path(config) if config else None,
        resume=None,
        protect=False,
        standin=False,
        extra=list(words[1:]),
        exports_count=False,  # a rejected export would fail the trial and make its fitness 0
    )
    return train_command(request)


if __name__ == "__main__":
    sys.exit(_train(*sys.argv[1:]))
