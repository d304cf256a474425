"""PreemptionHandler: save and leave when the machine is taken away."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import Stop, StopReason
from yolo_callbacks.core.naming import PREEMPTED
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.signals import SignalWatch, check_signals
from yolo_callbacks.trainer.ranks import is_worker

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session

_FROM_LAUNCHER = " from the launcher, which was told to leave or has lost another process"


class PreemptionHandler(Callback):
    """On SIGTERM or SIGUSR1, finish the batch, save what can be resumed, close the logs, and exit.

    SIGTERM is what container runtimes, cloud machines and SLURM send before they kill; SIGUSR1 is what SLURM's
    `--signal=USR1@120` sends. The weights are saved as `weights/preempted.pt`; resuming it goes on with them and
    trains the unfinished epoch again as a whole; with `BackupAndRestore(exact=True)` it begins where that epoch began.
    A signal during the first epoch saves them too, but Ultralytics
    cannot resume a run without a finished epoch: it begins anew. Between two epochs the last one is whole, and that is
    saved.

    It takes one batch (of training or validation), one checkpoint, and 10 s at most for what is still being written.
    Then the process exits by `SystemExit` with 128 plus the signal's number (143, 138), so that everything else is
    closed too. A second signal ends it at once. After the last evaluation the handlers that were there before are put
    back, so that a signal ends an export at once; resuming the run makes up for it. A handler that C code has installed
    (`faulthandler.register`) cannot be put back. None are installed outside the main thread, where Python allows none.

    On several GPUs the launcher (torchrun) passes SIGTERM on to every rank, and rank 0 saves. It also does so when
    another rank has failed. The process that called `model.train()` has to pass the signal on to torchrun, as
    `yolo-cb train` does; in Python, signal the process group.

    Args:
        signals: Names of the signals to react to. Defaults to ('SIGTERM', 'SIGUSR1').

    Raises:
        TypeError: If `signals` is not a list of names.
        ValueError: If one of them is no signal that a process can handle.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.BackupAndRestore(), ycb.PreemptionHandler()])
        ```
    """

    priority = Priority.REPORT

    def __init__(self, signals: str | Iterable[str] = ("SIGTERM", "SIGUSR1")) -> None:
        self.signals = check_signals("signals", signals)
        self._watch: SignalWatch | None = None
        self._session: Session | None = None
        self._arrived: int | None = None

    def outputs(self) -> Iterable[str]:
        """Return the checkpoint."""
        return (PREEMPTED,)

    def setup(self, session: Session) -> None:
        """Remember the run that is to be saved. Rank 0 only: the other ranks wait for it to leave."""
        self._session, self._arrived = session, None
        self._begin()

    def on_train_start(self, trainer: Any) -> None:
        """Begin to watch, on every rank: one that died at the signal would keep rank 0 from finishing its batch."""
        super().on_train_start(trainer)
        self._begin()

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Leave if a signal has arrived."""
        super().on_train_epoch_start(trainer)
        self._leave_if_asked()

    def on_train_batch_end(self, trainer: Any) -> None:
        """Leave if a signal has arrived."""
        super().on_train_batch_end(trainer)
        self._leave_if_asked()

    def on_val_batch_end(self, validator: Any) -> None:
        """Leave if a signal has arrived."""
        self._leave_if_asked()

    def close(self, session: Session, error: BaseException | None) -> None:
        """Put the handlers back before the export begins, and remove what an earlier part of this run has left."""
        self._end()
        if error is None:
            session.files.checkpoints.remove(PREEMPTED)
            self._leave_if_asked()

    def teardown(self, trainer: Any) -> None:
        """Put the handlers back. A signal that also killed a data loader's worker has come here as an error.

        Not so in a process that was launched: there the signal may have come because another one has failed.
        """
        self._end()
        if not is_worker():
            self._leave_if_asked()
        self._session = None

    def _begin(self) -> None:
        if self._watch is None:
            self._watch = SignalWatch(self.signals, self._note, patient=is_worker())
            self._watch.start()

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._watch = None

    def _note(self, number: int) -> None:
        self._arrived = number

    def _leave_if_asked(self) -> None:
        if self._arrived is None or self._session is None:
            return
        number, self._arrived = self._arrived, None
        message = f"{signal.Signals(number).name} arrived{_FROM_LAUNCHER if is_worker() else ''}"
        stop = Stop(message, source=type(self).__name__, reason=StopReason.PREEMPTED)
        self._session.leave(stop, SystemExit(128 + number), save_as=PREEMPTED)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the run and its handlers behind."""
        return {**self.__dict__, "_watch": None, "_session": None}
