"""PreemptionHandler: save and exit when the machine is about to be taken away."""

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

_FROM_LAUNCHER = " from the launcher, which got it itself or lost another process"


class PreemptionHandler(Callback):
    """On SIGTERM or SIGUSR1, finish the batch, save a checkpoint to resume from, close the logs, and exit.

    Container runtimes, cloud machines and SLURM send SIGTERM before they kill; SLURM's `--signal=USR1@120` sends
    SIGUSR1. The weights are saved as `weights/preempted.pt`. Resuming it continues with these weights and trains the
    whole unfinished epoch again; with `BackupAndRestore(exact=True)`, it repeats that epoch from its beginning. A
    signal in the first epoch saves the weights too, but Ultralytics cannot resume a run without a finished epoch, so it
    starts over. A signal between two epochs saves the finished one.

    All this takes one batch (of training or validation), one checkpoint, and at most 10 s for pending writes. Then
    `SystemExit` ends the process with code 128 plus the signal's number (143, 138), so that everything else is closed
    too. A second signal ends it immediately. After the final evaluation the previous handlers are restored, so a
    signal ends an export immediately; resuming the run repeats the export. A handler installed by C code
    (`faulthandler.register`) cannot be restored. Outside the main thread, where Python allows no handlers, none are
    installed.

    On several GPUs the launcher (torchrun) passes SIGTERM on to every rank, and rank 0 saves. It does the same when
    another rank has failed. The process that called `model.train()` must pass the signal on to torchrun, as
    `yolo-cb train` does; in Python, send the signal to the process group.

    Args:
        signals: Names of the signals to handle. Defaults to ('SIGTERM', 'SIGUSR1').

    Raises:
        TypeError: If `signals` is not a list of names.
        ValueError: If one of them is not a signal that a process can handle.

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
        """Remember the run to save. Rank 0 only: the other ranks wait for it to exit."""
        self._session, self._arrived = session, None
        self._begin()

    def on_train_start(self, trainer: Any) -> None:
        """Start watching on every rank: one that died of the signal would keep rank 0 from finishing its batch."""
        super().on_train_start(trainer)
        self._begin()

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Exit if a signal has arrived."""
        super().on_train_epoch_start(trainer)
        self._exit_if_signalled()

    def on_train_batch_end(self, trainer: Any) -> None:
        """Exit if a signal has arrived."""
        super().on_train_batch_end(trainer)
        self._exit_if_signalled()

    def on_val_batch_end(self, validator: Any) -> None:
        """Exit if a signal has arrived."""
        self._exit_if_signalled()

    def between_batches(self) -> None:
        """Exit if a signal has arrived."""
        self._exit_if_signalled()

    def close(self, session: Session, error: BaseException | None) -> None:
        """Restore the handlers before the export begins, and remove the checkpoint of an earlier preemption."""
        self._end()
        if error is None:
            session.files.checkpoints.remove(PREEMPTED)
            self._exit_if_signalled()

    def teardown(self, trainer: Any) -> None:
        """Restore the handlers, and exit if a signal has arrived that also killed a data loader's worker.

        A launched process does not exit here: its signal may have come because another process has failed.
        """
        self._end()
        if not is_worker():
            self._exit_if_signalled()
        self._session = None

    def _begin(self) -> None:
        if self._watch is None:
            self._watch = SignalWatch(self.signals, self._on_signal, patient=is_worker())
            self._watch.start()

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._watch = None

    def _on_signal(self, number: int) -> None:
        self._arrived = number

    def _exit_if_signalled(self) -> None:
        if self._arrived is None or self._session is None:
            return
        number, self._arrived = self._arrived, None
        message = f"{signal.Signals(number).name} arrived{_FROM_LAUNCHER if is_worker() else ''}"
        stop = Stop(message, source=type(self).__name__, reason=StopReason.PREEMPTED)
        self._session.leave(stop, SystemExit(128 + number), save_as=PREEMPTED)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the run and its handlers behind."""
        return {**self.__dict__, "_watch": None, "_session": None}
