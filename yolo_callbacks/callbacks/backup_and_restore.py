"""BackupAndRestore: at any moment, one checkpoint that loads and can be resumed, exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import SaveCheckpoint
from yolo_callbacks.core.naming import BACKUP
from yolo_callbacks.core.record import History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.core.selection import never_due
from yolo_callbacks.support import storage
from yolo_callbacks.support.checks import check_bool, check_int
from yolo_callbacks.support.log import LOGGER

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session


class BackupAndRestore(Callback):
    """Keep a verified copy of the newest checkpoint, from which an interrupted run can be resumed.

    A background thread copies the checkpoint to `weights/backup.pt` while the next epoch trains. The new copy is
    written next to the old one, synced and read back before it replaces it. So at any moment `backup.pt` or `last.pt`
    is intact: a power failure or a bad disk block may damage one of them, but not both. The copy keeps its optimizer
    after a stopped run too, when Ultralytics strips `last.pt`.

    Next to it, `weights/states` holds everything that the next epoch depends on, so that a resumed run ends with the
    same digits as an uninterrupted one: raw weights, accumulated gradients, random generators of every process, the
    position in the data. It is on by default because the training thread pays for one copy in memory per epoch, a
    fraction of the time of Ultralytics' own checkpoint; a background thread writes it, about 16 bytes per parameter.
    The log says whether a resume is exact, and if not, why; see docs/semantics.md.

    `yolo-cb train --resume RUN` continues from the newest checkpoint that loads. In Python, use
    `YOLO(ycb.newest_checkpoint(RUN))` with `attach` and `train(resume=True)`.

    Args:
        every_n_epochs: Make a copy every N epochs, >= 1. Defaults to 1.
        delete_checkpoint: Remove the copy when the run ends by itself, such as at a plateau or after its last epoch. A
            run that was stopped from outside can be resumed and keeps it. False lets `extend` go on from the last
            epoch. Defaults to True.
        exact: Also save the whole state of the training, on every rank. Defaults to True.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `every_n_epochs` is below 1.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.BackupAndRestore()])
        ```
    """

    priority = Priority.CHECKPOINT
    critical = True

    def __init__(self, every_n_epochs: int = 1, delete_checkpoint: bool = True, *, exact: bool = True) -> None:
        self.every_n_epochs = check_int("every_n_epochs", every_n_epochs, minimum=1)
        self.delete_checkpoint = check_bool("delete_checkpoint", delete_checkpoint)
        self.exact = check_bool("exact", exact)

    @property
    def state_every_n_epochs(self) -> int:
        """Return that the whole state is saved as often as the copy is made, for an exact resume."""
        return self.every_n_epochs if self.exact else 0

    @property
    def state_at_end(self) -> bool:
        """Return that the state after the last epoch is worth saving if it is kept: the run can be extended from it."""
        return self.exact and not self.delete_checkpoint

    def outputs(self) -> Iterable[str]:
        """Return the copy."""
        return (BACKUP,)

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return a sentence if the run is too short for a copy."""
        return never_due(self.every_n_epochs, plan)

    def decide(self, history: History) -> SaveCheckpoint | None:
        """Keep this epoch's checkpoint if one is due."""
        if not history or history.epoch % self.every_n_epochs:
            return None
        return SaveCheckpoint(f"kept as {BACKUP}", history.epoch, file=BACKUP, role="backup", announce=False)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Remove the copy if the run has ended by itself."""
        stop = session.stop_decision
        if error is not None or not self.delete_checkpoint or (stop is not None and stop.reason.from_outside):
            return
        if storage.is_whole(session.run.last_checkpoint):
            session.files.checkpoints.remove(BACKUP)
            session.exact.remove()
        else:
            LOGGER.warning(f"BackupAndRestore: {session.run.last_checkpoint} does not load, so {BACKUP} is kept")
