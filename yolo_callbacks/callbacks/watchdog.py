"""Watchdog: notices a training that stands still, and writes a heartbeat for programs that watch it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.lineup import label_of
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.core.stall import Limits, StallJudge, check_stall_after
from yolo_callbacks.reporting.pulse import Pulse
from yolo_callbacks.reporting.stall_watch import Post, StallWatch
from yolo_callbacks.run_dir.heartbeat import HEARTBEAT
from yolo_callbacks.session.participant import Alert
from yolo_callbacks.session.remaining import estimate
from yolo_callbacks.session.run_files import status_of
from yolo_callbacks.session.session import Session
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.checks import check_int, check_number
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.per_run import PerRun
from yolo_callbacks.trainer.ranks import rank
from yolo_callbacks.trainer.run import Run

_HIGHEST_CODE = 255


class Watchdog(PerRun["_Live"], Callback):
    """Notice when the training stands still, say where, and keep a heartbeat file for other programs.

    When no batch has ended for much longer than usual, a thread writes the stacks of all threads to
    `callbacks/stall-<n>.txt` and warns, in the log and through `Notify` and `RemoteMonitor`: once per stall, and once
    more when the run goes on. Validation, saving, the final evaluation, exports, and the first batch of an epoch have a
    longer limit. On several GPUs each rank watches itself, and rank 0 names the rank that is behind. No rank waits for
    another one to find that out.

    Every few seconds, `callbacks/heartbeat.json` says how far the run is: phase, epoch, batch, and the time that is
    left. A program that shows the progress can read it at any time; docs/watching.md describes the fields.
    `stall_after=None` writes the heartbeat alone.

    With `exit_code`, a stalled process ends, so that a scheduler can start it again. It ends as if it was killed: the
    newest checkpoint and exact state remain, and resuming it repeats the unfinished epoch.

    Args:
        stall_after: How long no batch may end: a multiple of the usual batch time such as `"10x"`, at least 2; a number
            of seconds > 0; or None for no limit. Defaults to `"10x"`.
        min_seconds: With a multiple, the least number of seconds before a batch is late, > 0. Defaults to 60.
        slow_seconds: Seconds without a sign of life in anything else, > 0; twice the longest such time so far, if that
            is more. A batch of the validation is a sign of life. Defaults to 1800.
        heartbeat_seconds: Seconds between two heartbeats, > 0. Defaults to 5.
        exit_code: Exit code from 1 to 255 of a process that stands still, such as 75 (try again); None to let it wait.
            On several GPUs, torchrun ends with its own code, 1. Defaults to None.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.BackupAndRestore(), ycb.Watchdog(exit_code=75)])
        ```
    """

    priority = Priority.REPORT

    def __init__(
        self,
        stall_after: Union[str, float, None] = "10x",
        *,
        min_seconds: float = 60,
        slow_seconds: float = 1800,
        heartbeat_seconds: float = 5,
        exit_code: int | None = None,
    ) -> None:
        self.stall_after = check_stall_after(stall_after)
        self.min_seconds = check_number("min_seconds", min_seconds, minimum=0.0, exclusive=True)
        self.slow_seconds = check_number("slow_seconds", slow_seconds, minimum=0.0, exclusive=True)
        self.heartbeat_seconds = check_number("heartbeat_seconds", heartbeat_seconds, minimum=0.0, exclusive=True)
        self.exit_code = None if exit_code is None else check_int("exit_code", exit_code, minimum=1)
        if self.exit_code is not None and self.exit_code > _HIGHEST_CODE:
            raise ValueError(f"exit_code={exit_code!r} must be <= {_HIGHEST_CODE}")
        if self.exit_code is not None and self.stall_after is None:
            raise ValueError(f"exit_code={exit_code!r} needs a stall_after: without one, no stall is found")

    def outputs(self) -> Iterable[str]:
        """Return the heartbeat."""
        return (f"callbacks/{HEARTBEAT}",)

    def setup(self, session: Session) -> None:
        """Start to watch this run. Rank 0."""
        self._begin(session)
        self._estimate(session)

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        """Start to watch on the ranks above 0, which have no `setup`."""
        session = Session.of(trainer)
        if not session.run.is_main:
            self._begin(session)

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Note that an epoch begins."""
        if self._live is not None:
            run = self._live.run
            self._live.pulse.begin_epoch(run.epoch, run.planned_epochs, run.batches_per_epoch)

    def on_train_batch_end(self, trainer: Any) -> None:
        """Note that a batch has ended."""
        if self._live is not None:
            self._live.pulse.beat()

    def on_train_epoch_end(self, trainer: Any) -> None:
        """Note that the batches of the epoch have ended."""
        if self._live is not None:
            self._live.pulse.end_batches()

    def on_val_start(self, validator: Any) -> None:
        """Note that a validation begins."""
        if self._live is not None:
            self._live.pulse.enter("validating" if self._live.run.epoch_is_open else "evaluating")

    def between_batches(self) -> None:
        """Note that a batch of an `ExtraValidation` has ended."""
        if self._live is not None:
            self._live.pulse.touch()

    def on_val_batch_end(self, validator: Any) -> None:
        """Note that a batch of the validation has ended."""
        if self._live is not None:
            self._live.pulse.touch()

    def on_val_end(self, validator: Any) -> None:
        """Note that a validation has ended."""
        if self._live is not None:
            self._live.pulse.enter("saving" if self._live.run.epoch_is_open else "closing")

    def on_model_save(self, trainer: Any) -> None:
        """Note that the trainer has saved its checkpoints."""
        if self._live is not None:
            self._live.pulse.enter("saving")

    def act(self, session: Session) -> None:
        """Note how much time is left."""
        self._estimate(session)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Note that exports and the last files are next."""
        if self._live is not None:
            self._live.pulse.enter("closing")

    def deliver(self, session: Session, error: BaseException | None) -> None:
        """Stop watching, and leave a heartbeat that says how the run ended."""
        self._end(status_of(session.stop_decision, error))

    def teardown(self, trainer: Any) -> None:
        """Stop watching on the ranks above 0; after an exception, rank 0 has not closed yet."""
        if self._live is not None and self._live.rank:
            self._end("finished")

    def _begin(self, session: Session) -> None:
        self._end("interrupted")  # a run whose end never came here
        run, number = session.run, rank()
        pulse, limits = Pulse(), Limits.of(self.stall_after, self.min_seconds, self.slow_seconds)
        shortest = min(self.stall_after if isinstance(self.stall_after, float) else self.min_seconds, self.slow_seconds)
        tick = min(1.0, self.heartbeat_seconds, max(0.05, shortest / 10))
        post = Post(run.callbacks_dir, number, max(1, run.world_size), session.id if number == 0 else None)
        watch = StallWatch(
            pulse,
            StallJudge(limits, tick),
            post,
            lambda alert: self._tell(session, alert),
            tick=tick,
            every=self.heartbeat_seconds,
            frozen_after=None if self.stall_after is None else self.slow_seconds,
            exit_code=self.exit_code,
        )
        pulse.epoch, pulse.epochs = run.epochs_before, run.planned_epochs
        self._live = _Live(run, pulse, watch, number)
        watch.start()

    def _end(self, status: str) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.watch.end(status)

    def _estimate(self, session: Session) -> None:
        if self._live is not None:
            self._live.pulse.touch()
            self._live.pulse.epochs = session.run.planned_epochs
            self._live.pulse.set_eta(estimate(session.run, session.ledger, session.callbacks.values()))

    def _tell(self, session: Session, alert: Alert) -> None:
        """Pass an alert on to the callbacks that send messages, then log it: a log may stand still with the run."""
        logged: set[str] = set()
        for name, callback in list(session.callbacks.items()):
            try:
                callback.alert(session, alert)
            except Exception as error:
                tell_once(logged, f"{name}.alert", error)
        log = LOGGER.warning if alert.event == "stall" else LOGGER.info
        log(f"{label_of(self, session.callbacks)}: {alert.message}")


@dataclass(frozen=True)
class _Live:
    run: Run
    pulse: Pulse
    watch: StallWatch
    rank: int
