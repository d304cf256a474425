"""Draws plots in processes of their own, so that they take no time from the training thread."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_callbacks.support import python_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from yolo_callbacks.session.session import Session

_TIMEOUT = 60.0  # seconds; far more than a plot of 10,000 epochs takes
_SHARE = 0.1  # the most of the time to spend on drawing: plots of long runs take longer


class Drawing:
    """One plot that is redrawn during training.

    Args:
        module: The module that draws it, run as `python -m yolo_callbacks.<module> SOURCE PICTURE [ARGUMENT ...]`.
        refresh_seconds: Minimum seconds between two plots; 0 for no pause.
    """

    def __init__(self, module: str, refresh_seconds: float) -> None:
        self._module = module
        self._refresh_seconds = refresh_seconds
        self._took = 0.0
        self.restart()

    def restart(self) -> None:
        """A run begins: the next plot is due."""
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the plot is to be redrawn."""
        return time.monotonic() >= self._due

    def draw(self, session: Session, source: Path, picture: Path, arguments: Sequence[str] = ()) -> None:
        """Draw the plot in the background. A waiting one is replaced; errors are logged once."""
        pause = self._refresh_seconds and max(self._refresh_seconds, self._took / _SHARE)
        self._due = time.monotonic() + pause
        session.files.background("plots").submit(picture.name, self._task(source, picture, arguments))

    def _task(self, source: Path, picture: Path, arguments: Sequence[str]) -> Callable[[], None]:
        def task() -> None:
            start = time.monotonic()
            try:
                draw_in_process(self._module, source, picture, arguments)
            finally:
                self._took = time.monotonic() - start

        return task


def draw_in_process(module: str, source: Path, picture: Path, arguments: Sequence[str] = ()) -> None:
    """Run `python -m yolo_callbacks.<module> SOURCE PICTURE [ARGUMENT ...]` and wait for it.

    Raises:
        RuntimeError: If it fails.
        subprocess.TimeoutExpired: If it takes longer than a minute.
    """
    done = subprocess.run(
        python_process.command(module, str(source), str(picture), *arguments),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TIMEOUT,
        env={**python_process.environment(), "PYTHONIOENCODING": "utf-8"},
        **python_process.APART,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def show_text_literally(figure: Figure) -> None:
    """Show texts literally: `$` begins no formula, and characters that cannot be encoded become `?`.

    Tick labels are left alone: matplotlib itself writes formulas for logarithms.
    """
    texts = list(figure.texts)
    for axes in figure.axes:
        legend = axes.get_legend()
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *(legend.get_texts() if legend else ())]
    for text in texts:
        text.set_parse_math(False)
        text.set_text(text.get_text().encode("utf-8", "replace").decode())


def render_from_command_line(render: Callable[..., None]) -> None:
    """Render with the arguments that `draw_in_process` passed to this process, at low priority."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    source, picture, *arguments = sys.argv[1:]
    render(Path(source), Path(picture), *arguments)
