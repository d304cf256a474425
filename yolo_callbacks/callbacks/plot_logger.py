"""PlotLogger: the curves of the run as `callbacks/curves.png`."""

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
    """Draw losses, metrics and learning rate to `callbacks/curves.png` during training.

    The best epoch, reductions of the learning rate and an early stop are marked. A separate process draws the picture,
    which takes no time of the training thread, at most once every `refresh_seconds`, and once more when training ends.

    Args:
        filename: Name of the picture in the run's `callbacks` folder, ending in `.png`. Defaults to `"curves.png"`.
        refresh_seconds: Minimum seconds between two pictures, >= 0. Defaults to 30.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or `filename` contains a folder or has another suffix.

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
        """Draw again from the first epoch on."""
        self._drawing.restart()

    def act(self, session: Session) -> None:
        """Draw, if the last picture is old enough."""
        if self._drawing.is_due:
            self._draw(session)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Draw the last picture, but not after Ctrl-C, which should not wait for it."""
        if session.entries and not isinstance(error, KeyboardInterrupt):
            self._draw(session)

    def _draw(self, session: Session) -> None:
        self._drawing.draw(session, session.files.journal.path, session.run.callbacks_dir / self.filename)
