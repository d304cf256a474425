"""Session: one training run with its callbacks. Passes each epoch to the ledger and applies its decisions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

from yolo_callbacks.core.decision import Finish, Stop
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.core.events import TRAIN_EVENTS, check_events
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import check_outputs, label
from yolo_callbacks.core.record import History, Plan
from yolo_callbacks.session.exact_resume import ExactResume
from yolo_callbacks.session.hook import LIFECYCLE_EVENTS, Hook
from yolo_callbacks.session.main_rank import MainRank
from yolo_callbacks.session.measuring import Measuring
from yolo_callbacks.session.participant import Participant
from yolo_callbacks.session.run_files import RunFiles
from yolo_callbacks.session.steps import Steps
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.ranks import broadcast
from yolo_callbacks.trainer.run import Run
from yolo_callbacks.trainer.stops import TRAINER

_SLOT = "yolo_callbacks_session"  # on the trainer, so that both share one lifetime


class Session:
    """One run of one trainer. Get it with `Session.of(trainer)`.

    Attributes:
        run: The facade over the trainer.
        ledger: Epochs and decisions; on the ranks above 0 the decisions only.
        exact: Saves the whole state of the training, and restores it.
        opened: Whether the training has begun.
        files: What the run leaves on disk; on rank 0 only.
    """

    files: RunFiles

    def __init__(self, trainer: Any) -> None:
        self.run = Run(trainer)
        self._callbacks: dict[str, Participant[Session]] = {}
        self._steps = Steps(self, self._callbacks)
        self._measuring = Measuring(self.run, self._steps)
        self._main: MainRank | None = None  # on rank 0, once the training has begun
        self.exact = ExactResume(self.run)
        self.ledger = Ledger(self._callbacks, Plan(), self._steps.failed)
        self._facts: dict[str, Any] = {}
        self.opened = self._completed = self._over = False
        self._error_around = sys.exc_info()[1]  # train() may be called inside an except block
        self._asked_to_stop: Stop | None = None

    @classmethod
    def of(cls, trainer: Any) -> Session:
        """Return the session of a trainer; create it for a new trainer."""
        attributes = vars(trainer)
        if _SLOT not in attributes:
            attributes[_SLOT] = cls(trainer)
        session: Session = attributes[_SLOT]
        return session

    # ------------------------------------------------------------------------------------------ who takes part

    def join(self, callbacks: Iterable[Participant[Session]], facts: Mapping[str, Any] | None = None) -> None:
        """Add callbacks, in order of their priority. Those that have already joined are left alone.

        Args:
            callbacks: The callbacks.
            facts: Further fields for `run.json`.
        """
        self._facts.update(facts or {})
        known, given = list(self._callbacks.values()), {id(callback): callback for callback in callbacks}
        new = [callback for callback in given.values() if all(callback is not item for item in known)]
        if not new:
            return
        together = label(sorted([*known, *new], key=lambda callback: callback.priority))
        self._callbacks.clear()
        self._callbacks.update(together)
        for callback in new:
            name = type(callback).__name__
            if callback.replaces and self.run.replace_integration(callback.replaces):  # before it can start
                LOGGER.info(f"{name}: Ultralytics' own {name} logging is off in this run; the callback replaces it")
        if self.opened and self.run.is_main:
            self._check()
            self._steps.setup(only=new)

    def enlist(self, callback: Participant[Session]) -> None:
        """Add a callback of which only one method was registered, and listen to all the events that it needs."""
        if any(callback is known for known in self._callbacks.values()):
            return
        check_events(callback)
        self.join([callback])
        self._listen()

    def _listen(self) -> None:
        """Listen to all needed events, even if somebody has cleared or replaced a list of functions."""
        for event in TRAIN_EVENTS:
            if event in LIFECYCLE_EVENTS or any(callback.overrides(event) for callback in self._callbacks.values()):
                self.run.listen(event, Hook(event, _receive))
        if self.opened:
            self.run.protect_callback_lists()

    def request_stop(self, stop: Stop) -> None:
        """Request a stop after the current epoch. Safe from any thread and from a signal handler."""
        self._asked_to_stop = stop

    def _take_request(self) -> Stop | None:
        request, self._asked_to_stop = self._asked_to_stop, None
        return request

    @property
    def callbacks(self) -> Mapping[str, Participant[Session]]:
        """The callbacks by label, in order of their priority."""
        return MappingProxyType(self._callbacks)

    @property
    def history(self) -> History:
        """The epochs so far."""
        return self.ledger.history

    @property
    def entries(self) -> list[Entry]:
        """The epochs so far, with decisions and counters, as in the journal."""
        return self.ledger.entries

    @property
    def id(self) -> str:
        """A unique id that a resumed run keeps. Rank 0."""
        return self.files.manifest.run_id

    @property
    def measured_names(self) -> tuple[str, ...]:
        """The names of what is measured besides the trainer's metrics, in order. Rank 0, once the model is built."""
        return self._measuring.names

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of an epoch's numbers that are known before the first epoch; see `Entry.numbers`. Rank 0."""
        return self._measuring.number_names(self.history)

    @property
    def stop_decision(self) -> Stop | None:
        """The decision that ended the run early; None while it runs or if it completed its epochs."""
        return self._main.ending.stop if self._main is not None else None

    @property
    def finish_decision(self) -> Finish | None:
        """The decision that brought the end of the run forward, or None."""
        return self.ledger.finishing.decision

    @property
    def ended(self) -> bool:
        """Whether the training is over."""
        return self._over or (self._main is not None and self._main.ending.begun)

    # ------------------------------------------------------------------------------------------ events

    def handle(self, event: str) -> None:
        """Handle an event: first in the session, then in the callbacks' methods for it."""
        if event == "on_fit_epoch_end" and self._is_final_evaluation():
            return
        error = sys.exc_info()[1]
        ended_by = None if error is self._error_around else error
        try:
            if event in self._HANDLERS:
                self._HANDLERS[event](self)
            for callback in list(self._callbacks.values()):
                # if this method is registered itself, the trainer calls it
                if callback.overrides(event) and not self.run.listens(event, getattr(callback, event)):
                    getattr(callback, event)(self.run.trainer)
        finally:
            if event == "teardown":
                self._close(ended_by)

    def _is_final_evaluation(self) -> bool:
        """Whether this on_fit_epoch_end follows no epoch. A callback with only that event has seen none begin."""
        return not self.run.epoch_is_open and (bool(self.entries) or self.run.evaluates_finally)

    def _on_pretrain_routine_start(self) -> None:
        self.run.guard_integrations()
        self.run.protect_callback_lists()
        self.run.prepare()

    def _on_train_epoch_start(self) -> None:
        self.run.unpublish()
        self._open()
        self._listen()
        if self._main is not None and self._main.over_before is not None:
            over, self._main.over_before = self._main.over_before, None
            LOGGER.info(f"This run already ended after epoch {self.history.epoch}: {over.message}")
            self.run.skip_training()
        self.exact.begin_epoch()
        self.run.begin_epoch(self.ledger.learning_rate, self.ledger.freezing)
        self.run.skip_validation(self.ledger.skips_validation, unless=lambda: self._asked_to_stop is not None)

    def _on_train_epoch_end(self) -> None:
        self.run.unpublish()
        self._open()
        self._listen()
        self.run.end_batches()
        if self._main is not None:
            self._main.files.checkpoints.wait()  # the trainer is about to overwrite last.pt

    def _on_model_save(self) -> None:
        self.run.checkpointing.note_saved()

    def _on_fit_epoch_end(self) -> None:
        self._open()
        self.run.apply_finish(self.ledger.finishing)  # with `time`, the trainer has just changed its plan
        decisions = self._main.decide(self._take_request) if self._main else ()
        decisions, skips = broadcast((decisions, self.ledger.skips_validation), self.run.world_size)
        if self._main is None:
            self.ledger.note(decisions)
            self.ledger.skips_validation = skips
        self.run.apply_finish(self.ledger.finishing)
        if any(isinstance(decision, Stop) and decision.source != TRAINER for decision in decisions):
            self.run.stop()
        if self._main is not None:
            self._main.carry_out(decisions)
            self._main.remaining.tell()
            self._steps.act()
        self.exact.end_epoch(self.history, decisions)
        self.run.close_epoch()

    def _on_train_end(self) -> None:
        self._completed = True
        if self._main is not None:
            self._main.ending.end(None)
            self._main.files.checkpoints.drop_originals()  # loggers upload the folder next

    # ------------------------------------------------------------------------------------------ opening

    def _open(self) -> None:
        """Check what the callbacks need, resume an interrupted run, and set the callbacks up. Once per run."""
        if self.opened:
            return
        self.exact.begin(self._callbacks.values())
        main: MainRank | None = None
        if self.run.is_main:
            self._check()
            main = MainRank(self.run, self._steps, self._measuring)
            self.ledger, self.files = main.ledger, main.files
            main.take_up(self._facts)
        extension = main.extension if main is not None else None
        self.ledger.in_force, extension = broadcast((self.ledger.in_force, extension), self.run.world_size)
        self.run.follow(extension, self.ledger.finishing)
        self.run.guard_integrations()
        if main is not None:
            self.run.protect(main.announce, main.before_stripping)
        self.opened, self._main = True, main
        self._listen()
        if main is not None:
            self._steps.setup()
            if not self.history and not self.run.has_time_limit:  # with one, the plan changes after every epoch
                self._steps.log_impossible(self.history.plan)

    def _check(self) -> None:
        """Make sure that the run has what the callbacks need, and that no two write the same file."""
        self._measuring.check()
        check_outputs(self._callbacks, self.run.save_period)

    _HANDLERS: ClassVar[Mapping[str, Callable[[Session], None]]] = {
        "on_pretrain_routine_start": _on_pretrain_routine_start,
        "on_pretrain_routine_end": _open,
        "on_train_epoch_start": _on_train_epoch_start,
        "on_train_epoch_end": _on_train_epoch_end,
        "on_model_save": _on_model_save,
        "on_fit_epoch_end": _on_fit_epoch_end,
        "on_train_end": _on_train_end,
    }

    def leave(self, stop: Stop, error: SystemExit, save_as: str) -> NoReturn:
        """End the training immediately, in or between epochs, in a state that can be resumed.

        Args:
            stop: Why.
            error: What to raise.
            save_as: File for the current weights, relative to the run directory.
        """
        if self._main is not None:
            self._main.ending.leave(stop, error, save_as)
        raise error

    def _close(self, error: BaseException | None) -> None:
        """Clean up, whatever ended the training."""
        try:
            if self._main is not None:
                self._main.ending.close(error, completed=self._completed)
            self.exact.close(error)
        finally:
            self._over = True
            self._error_around = None  # its traceback may hold models
            self.run.release()


def _receive(event: str, trainer: Any) -> None:
    """Forward an event to the trainer's session."""
    Session.of(trainer).handle(event)
