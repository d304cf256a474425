"""PlotLogger: the curves of the run so far as `callbacks/curves.png`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.pictures.drawing import Drawing
from yolo_callbacks.support.checks import check_file_name, check_number

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session


class PlotLogger(Callback):
    """Draw losses, metrics and learning rate to `callbacks/curves.png` while the training runs.

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
        self._drawing = Drawing("pictures.curves", self.refresh_seconds)

    def outputs(self) -> Iterable[str]:
        """Return the picture."""
        return (f"callbacks/{self.filename}",)

    def setup(self, session: Session) -> None:
        """The first epoch gets a picture."""
        self._drawing.restart()

    def act(self, session: Session) -> None:
        """Draw, if the last picture is old enough."""
        if self._drawing.is_due:
            self._draw(session)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Draw the last picture; who pressed Ctrl-C does not want to wait for it."""
        if session.entries and not isinstance(error, KeyboardInterrupt):
            self._draw(session)

    def _draw(self, session: Session) -> None:
        self._drawing.draw(session, session.files.journal.path, session.run.callbacks_dir / self.filename)
