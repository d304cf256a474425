"""PlotLogger: the curves of the run so far as `callbacks/curves.png`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_callbacks.callback import Callback, Priority
from yolo_callbacks.core.checks import check_file_name, check_number

if TYPE_CHECKING:
    from yolo_callbacks.core.session import Session

_RENDER_TIMEOUT = 60.0  # seconds; far more than a picture of 10,000 epochs takes


class PlotLogger(Callback):
    """Draw losses, metrics and learning rate to `callbacks/curves.png` while the training goes on.

    The best epoch, reductions of the learning rate and an early stop are marked. The picture is drawn by a process of
    its own, so that it takes nothing from the training thread, and at most once every `refresh_seconds`; the last one
    is drawn when training ends.

    Args:
        filename: Name of the picture in the run's `callbacks` folder, ending in `.png`. Defaults to `"curves.png"`.
        refresh_seconds: Least number of seconds between two pictures, >= 0. Defaults to 30.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        ```python
        ycb.attach(model, [ycb.PlotLogger(refresh_seconds=300)])
        ```
    """

    priority = Priority.REPORT

    def __init__(self, filename: str = "curves.png", refresh_seconds: float = 30.0) -> None:
        self.filename = check_file_name("filename", filename, suffix=".png")
        self.refresh_seconds = check_number("refresh_seconds", refresh_seconds, minimum=0.0)
        self._due = 0.0

    def outputs(self) -> Iterable[str]:
        """Return the picture."""
        return (f"callbacks/{self.filename}",)

    def setup(self, session: Session) -> None:
        """The first epoch gets a picture."""
        self._due = 0.0

    def act(self, session: Session) -> None:
        """Draw, if the last picture is old enough."""
        if time.monotonic() >= self._due:
            self._draw(session)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Draw the last picture; who pressed Ctrl-C does not want to wait for it."""
        if session.entries and not isinstance(error, KeyboardInterrupt):
            self._draw(session)

    def _draw(self, session: Session) -> None:
        self._due = time.monotonic() + self.refresh_seconds
        journal, picture = session.files.journal.path, session.run.callbacks_dir / self.filename
        session.files.background("plots").submit(self.filename, lambda: render_in_process(journal, picture))


def render_in_process(journal: Path, picture: Path) -> None:
    """Run `python -m yolo_callbacks.plotting JOURNAL PICTURE` and wait for it.

    Raises:
        RuntimeError: If it fails.
    """
    command = [sys.executable, "-m", "yolo_callbacks.plotting", str(journal), str(picture)]
    # its own session: a Ctrl-C in the terminal is meant for the training
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=_RENDER_TIMEOUT,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
