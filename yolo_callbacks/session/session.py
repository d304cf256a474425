"""Session: one training run with its callbacks. Carries each epoch from the trainer to the ledger and into force."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

from yolo_callbacks.core.decision import Decision, Finish, SaveCheckpoint, Stop
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.core.events import TRAIN_EVENTS, check_events
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import check_metrics, check_outputs, configuration, label
from yolo_callbacks.core.metrics import UnknownMetricError, is_of_classes
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.rule import Priority, Rule
from yolo_callbacks.session.run_files import RunFiles
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.checks import as_number
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.ranks import broadcast, is_worker
from yolo_callbacks.trainer.run import Run
from yolo_callbacks.trainer.stops import TRAINER

LIFECYCLE_EVENTS = (
    "on_pretrain_routine_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_model_save",
    "on_fit_epoch_end",
    "on_train_end",
    "teardown",
)
"""Events that a session needs, whatever the callbacks ask for. None of them comes once a batch."""

_SLOT = "yolo_callbacks_session"  # kept on the trainer, so that both live and die together


class Hook:
    """The function that is registered for one event; picklable, so that it reaches the other ranks."""

    def __init__(self, event: str) -> None:
        self.event = event

    def __call__(self, trainer: Any) -> None:
        """Pass the event on to the trainer's session."""
        Session.of(trainer).handle(self.event)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hook) and self.event == other.event

    def __hash__(self) -> int:
        return hash(self.event)


class Participant(Rule):
    """What takes part in a training: a rule with effects."""

    replaces: ClassVar[str] = ""
    """The integration of Ultralytics whose work it does, such as `"tensorboard"`: that one is off in the run."""

    # ------------------------------------------------------------------------------------------------- measuring

    def measures(self, session: Session) -> Iterable[str]:
        """Return the names of what `measure` gives, asked once before the first epoch.

        They get a column from the first row on, and can be monitored like any other metric. A name of ours has a `/`
        in it, such as `"gradients/norm"`, so that it cannot be mistaken for one of the trainer's.
        """
        return ()

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return numbers that belong to the epoch that has just been trained and validated, before anything is decided.

        They become part of its record, and so of the journal; a name that is left out was not measured in this epoch.
        """
        return {}

    # ------------------------------------------------------------------------------------------------- effects

    def setup(self, session: Session) -> None:
        """Training is about to start, or to resume.

        Raises:
            UnknownMetricError: If it is to report something that the run will not have; the run then does not start.
        """

    def act(self, session: Session) -> None:
        """An epoch is complete, its decisions are in force."""

    def close(self, session: Session, error: BaseException | None) -> None:
        """Training has ended; `error` is what ended it, None if nothing went wrong."""

    def deliver(self, session: Session, error: BaseException | None) -> None:
        """Last of all: every file of the run is complete, `run.json` too, for those that carry them elsewhere."""

    # ------------------------------------------------------------------------------------------------- events

    def overrides(self, event: str) -> bool:
        """Return whether the class has a method of its own for this event."""
        return False


class Session:
    """Everything about one run of one trainer. Get it with `Session.of(trainer)`.

    Attributes:
        run: The facade over the trainer.
        ledger: Epochs and decisions; on the ranks above 0 the decisions only.
        files: What the run leaves on disk; on rank 0 only.
    """

    files: RunFiles

    def __init__(self, trainer: Any) -> None:
        self.run = Run(trainer)
        self._callbacks: dict[str, Participant] = {}
        self.ledger = Ledger(self._callbacks, Plan(), self._survive)
        self._facts: dict[str, Any] = {}
        self._opened = self._finished = self._ended = self._failed = False
        self._error_around = sys.exc_info()[1]  # train() may be called where an error is dealt with
        self._over_before: Stop | None = None
        self._restored: tuple[SaveCheckpoint, Path] | None = None
        self._asked_to_stop: Stop | None = None
        self._late_stop: Stop | None = None
        self._told: set[str] = set()
        self._measured: tuple[int, dict[str, float]] = (0, {})

    @classmethod
    def of(cls, trainer: Any) -> Session:
        """Return the session of a trainer; a new trainer begins a new one."""
        attributes = vars(trainer)
        if _SLOT not in attributes:
            attributes[_SLOT] = cls(trainer)
        session: Session = attributes[_SLOT]
        return session

    # ------------------------------------------------------------------------------------------ who takes part

    def join(self, callbacks: Iterable[Participant], facts: Mapping[str, Any] | None = None) -> None:
        """Let callbacks take part, in order of their priority. Those that do already stay as they are.

        Args:
            callbacks: The callbacks.
            facts: What else `run.json` should say of the run.
        """
        self._facts.update(facts or {})
        known = list(self._callbacks.values())
        new = [callback for callback in callbacks if all(callback is not item for item in known)]
        if not new:
            return
        together = label(sorted([*known, *new], key=lambda callback: callback.priority))
        self._callbacks.clear()
        self._callbacks.update(together)
        for callback in new:
            name = type(callback).__name__
            if callback.replaces and self.run.replace_integration(callback.replaces):  # before it can begin
                LOGGER.info(f"{name}: Ultralytics' own {name} logging is off in this run, the callback does it")
        if self._opened and self.run.is_main:
            self._check()
            self._guarded("setup", only=new)

    def enlist(self, callback: Participant) -> None:
        """Let a callback take part that was registered by one of its methods alone, and listen to all it needs."""
        if any(callback is known for known in self._callbacks.values()):
            return
        check_events(callback)
        self.join([callback])
        self._listen()

    def _listen(self) -> None:
        """Listen to all that is needed, also where somebody has cleared or replaced a list of functions."""
        for event in TRAIN_EVENTS:
            if event in LIFECYCLE_EVENTS or any(callback.overrides(event) for callback in self._callbacks.values()):
                self.run.listen(event, Hook(event))
        if self._opened:
            self.run.protect_callback_lists()

    def request_stop(self, stop: Stop) -> None:
        """Ask for the end of the run after the epoch that runs. Safe from any thread and from a signal handler."""
        self._asked_to_stop = stop

    # ------------------------------------------------------------------------------------------ what there is to see

    @property
    def callbacks(self) -> Mapping[str, Participant]:
        """The callbacks that take part, by label, in order of their priority."""
        return MappingProxyType(self._callbacks)

    @property
    def history(self) -> History:
        """The epochs so far."""
        return self.ledger.history

    @property
    def entries(self) -> list[Entry]:
        """The epochs so far with the decisions and counters of each, as the journal has them."""
        return self.ledger.entries

    @property
    def id(self) -> str:
        """A name that no other run has, and that a resumed run keeps. Rank 0."""
        return self.files.manifest.run_id

    @property
    def measured_names(self) -> tuple[str, ...]:
        """The names of what is measured beside the trainer's own, in order. Rank 0, once the model is built."""
        names = (name for callback in self._callbacks.values() for name in callback.measures(self))
        return tuple(dict.fromkeys([*names, *self._class_metrics]))

    @property
    def _class_metrics(self) -> tuple[str, ...]:
        """What callbacks ask to know of single classes, or of all together, measured also where none lists them."""
        names = (name for callback in self._callbacks.values() for name in callback.needs())
        asked = [name for name in names if is_of_classes(name)]
        return self.run.classes.keys(asked) if asked else ()

    @property
    def number_names(self) -> tuple[str, ...]:
        """The names of all numbers of an epoch that are known before the first one: see `Entry.numbers`. Rank 0."""
        counters = (
            f"{label}/{key}" for label, callback in self._callbacks.items() for key in callback.counters(self.history)
        )
        names = (*self.run.metric_names()[0], *self.measured_names, "lr_factor", *self.run.measure_names(), *counters)
        return tuple(dict.fromkeys(names))

    @property
    def stop_decision(self) -> Stop | None:
        """The decision that ended the run, None while it goes on or when it ran to its end."""
        return (self.entries[-1].stop if self.entries else None) or self._late_stop

    @property
    def finish_decision(self) -> Finish | None:
        """The decision that has brought the end of the run forward, None if none did."""
        return self.ledger.finishing.decision

    @property
    def opened(self) -> bool:
        """Whether the training has begun."""
        return self._opened

    @property
    def ended(self) -> bool:
        """Whether the training is over."""
        return self._ended

    # ------------------------------------------------------------------------------------------ events

    def handle(self, event: str) -> None:
        """Deal with an event: what the session does itself first, then the callbacks' own methods for it."""
        if event == "on_fit_epoch_end" and self._is_final_evaluation():
            return
        error = sys.exc_info()[1]
        ended_by = None if error is self._error_around else error
        try:
            getattr(self, f"_{event}", _nothing)()
            for callback in list(self._callbacks.values()):
                # one that was registered by this very method gets the event from the trainer itself
                if callback.overrides(event) and not self.run.listens(event, getattr(callback, event)):
                    getattr(callback, event)(self.run.trainer)
        finally:
            if event == "teardown":
                self._close(ended_by)

    def _is_final_evaluation(self) -> bool:
        """Whether this on_fit_epoch_end follows no epoch. A callback on that event alone has seen none begin."""
        return not self.run.epoch_is_open and (bool(self.entries) or self.run.evaluates_finally)

    def _on_pretrain_routine_start(self) -> None:
        self.run.guard_integrations()
        self.run.protect_callback_lists()
        self.run.prepare()

    def _on_pretrain_routine_end(self) -> None:
        self._open()

    def _on_train_epoch_start(self) -> None:
        self.run.unpublish()
        self._open()
        self._listen()
        if self._over_before is not None:
            over, self._over_before = self._over_before, None
            LOGGER.info(f"This run had ended after epoch {self.history.epoch} before: {over.message}")
            self.run.skip_training()
        self.run.begin_epoch(self.ledger.learning_rate, self.ledger.freezing)

    def _on_train_epoch_end(self) -> None:
        self.run.unpublish()
        self._open()
        self._listen()
        self.run.end_batches()
        if self.run.is_main:
            self.files.checkpoints.wait()  # the trainer is about to write last.pt again

    def _on_model_save(self) -> None:
        self.run.checkpointing.note_saved()

    def _on_fit_epoch_end(self) -> None:
        self._open()
        self.run.apply_finish(self.ledger.finishing)  # with `time` the trainer has just planned anew
        decisions = self._decide() if self.run.is_main else ()
        heard = broadcast(decisions, self.run.world_size)
        if not self.run.is_main:
            self.ledger.hear(heard)
        self.run.apply_finish(self.ledger.finishing)
        if any(isinstance(decision, Stop) and decision.source != TRAINER for decision in heard):
            self.run.stop()
        if self.run.is_main:
            self._carry_out(decisions)
            self._guarded("act")
        self.run.close_epoch()

    def _before_stripping(self) -> bool:
        """The trainer is about to strip `last.pt` and `best.pt`: return whether that may be done. Rank 0."""
        self.run.unpublish()
        self.files.checkpoints.wait()
        return self.files.checkpoints.keep_originals()

    def _on_train_end(self) -> None:
        self._finished = True
        self._end(None)
        if self._opened and self.run.is_main:
            self.files.checkpoints.drop_originals()  # loggers take the folder as it is now

    # ------------------------------------------------------------------------------------------ opening

    def _open(self) -> None:
        """Check what the callbacks ask for, take up an interrupted run, and set the callbacks up. Once a run."""
        if self._opened:
            return
        if self.run.is_main:
            self._check()
            self.files = RunFiles(self.run)
            self._take_up()
        in_force = self.ledger.learning_rate, self.ledger.freezing, self.ledger.finishing
        in_force = broadcast(in_force, self.run.world_size)
        self.ledger.learning_rate, self.ledger.freezing, self.ledger.finishing = in_force
        self.run.apply_finish(self.ledger.finishing)
        self.run.guard_integrations()
        self.run.protect(self._announce, self._before_stripping)
        self._opened = True
        self._listen()
        if self.run.is_main:
            self._guarded("setup")
            self._tell_of_the_impossible()

    def _tell_of_the_impossible(self) -> None:
        """Tell at the start of a run what can never happen in it. Rank 0."""
        if self.history or self.run.has_time_limit:  # which plans anew after every epoch
            return
        for name, callback in self._callbacks.items():
            try:
                for sentence in callback.impossible(self.history.plan):
                    LOGGER.info(f"{name}: {sentence}")
            except Exception as error:
                self._survive(name, "impossible", error)

    def _check(self) -> None:
        metrics, losses_known = self.run.metric_names()
        known = {**metrics, **dict.fromkeys(self.measured_names, 0.0)}
        check_metrics(
            self._callbacks,
            known,
            losses_known,
            lambda name: self.run.classes.problem(name, known) if is_of_classes(name) else None,
            measures_more=self.run.measures_more,
        )
        check_outputs(self._callbacks, self.run.save_period)

    def _take_up(self) -> None:
        """Fold the epochs of an interrupted run into decisions as they would have been taken live."""
        ledger = self.ledger = Ledger(self._callbacks, self.run.plan(), self._survive)
        ledger.begin()
        earlier = self.files.earlier_epochs()
        self.files.mend_results()
        self.files.tidy_checkpoints()
        self.files.checkpoints.mend_originals()
        self.files.mend_best()
        if not earlier:
            self._carry_out(ledger.decisions)
        for record in earlier:
            from_results_csv = record.base_lr is None
            self.run.apply_finish(ledger.finishing)
            ledger.add(self.run.with_schedule(record, ledger.learning_rate) if from_results_csv else record)
        if ledger.entries:
            self.run.apply_finish(ledger.finishing)
            self.run.continue_clock(ledger.history[-1].elapsed)
            *before, newest = ledger.entries
            saved = [d for entry in before for d in entry.decisions if isinstance(d, SaveCheckpoint)]
            self.files.checkpoints.adopt(saved)
            self._carry_out_missed(newest)
            self._over_before = ledger.entries[-1].stop or self.run.why_finished()
        self.files.journal.begin(ledger.content)
        self.files.manifest.update(
            **self.run.describe(),
            **self._facts,
            callbacks=configuration(self._callbacks),
            checkpoints=self.files.checkpoints.stored,
        )
        self.files.list_decisions(decision for entry in ledger.entries for decision in entry.decisions)

    def _carry_out_missed(self, entry: Entry) -> None:
        """Keep the checkpoints that a crash right after the decision left undone."""
        saves = [decision for decision in entry.decisions if isinstance(decision, SaveCheckpoint)]
        missed = [decision for decision in saves if not self.files.checkpoints.has(decision)]
        source = self.files.newest_epoch() if missed else None
        for decision in missed:
            if source is not None:
                self.files.checkpoints.keep(decision, source)
            else:
                LOGGER.warning(f"{decision.file} of epoch {decision.epoch} was lost with the process")

    # ------------------------------------------------------------------------------------------ one epoch

    def _announce(self) -> None:
        """The trainer is about to replace `last.pt`: note the epoch first, so that the journal is never behind."""
        if self.run.epoch_is_open and self.history.epoch < self.run.epoch:
            self.files.journal.announce(self._record(complete=False))

    def _record(self, *, complete: bool = True) -> EpochRecord:
        """Build the record of the epoch that has just been validated. Rank 0."""
        if self._measured[0] != self.run.epoch:
            measured: dict[str, float] = {}
            for name, callback in self._callbacks.items():
                try:
                    told = callback.measure(self).items()
                    measured |= {key: float(as_number(f"{name}.measure()[{key!r}]", value)) for key, value in told}
                except Exception as error:
                    self._survive(name, "measure", error)
            self._measured = self.run.epoch, {**measured, **self._measure_classes()}
        return self.run.record(self.ledger.learning_rate, self._measured[1], complete=complete)

    def _measure_classes(self) -> Mapping[str, float]:
        """Return what callbacks ask to know of classes."""
        keys = self._class_metrics
        results = self.run.class_results() if keys else None
        if results is None:
            return {}
        numbers = results.numbers(keys)
        missing = ", ".join([key for key in keys if key not in numbers][:8])
        if missing and missing not in self._told:
            self._told.add(missing)
            LOGGER.warning(f"{missing} cannot be measured: no such class occurs in the validation set")
        return numbers

    def _decide(self) -> tuple[Decision, ...]:
        """Build the epoch's record, ask for decisions, and write both to the journal. Rank 0."""
        record = self._record()
        asked, self._asked_to_stop = self._asked_to_stop, None
        entry = self.ledger.add(record, [stop for stop in (asked, self.run.why_stopping()) if stop is not None])
        self.files.journal.append(entry, lambda: self.ledger.content)
        return entry.decisions

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        """Do what decisions ask for on disk, and tell of them. Rank 0."""
        for decision in decisions:
            if isinstance(decision, SaveCheckpoint):
                self.files.checkpoints.keep(decision)
            verbose = getattr(self._callbacks.get(decision.source), "verbose", 1)
            if verbose and getattr(decision, "announce", True):
                LOGGER.info(f"{decision.source}: epoch {decision.epoch}: {decision.message}")
        self.files.list_decisions(decisions)

    # ------------------------------------------------------------------------------------------ the end

    def leave(self, stop: Stop, error: SystemExit, save_as: str) -> NoReturn:
        """End the training here and now, in the middle of an epoch or between two, with a state that can be resumed.

        Args:
            stop: Why.
            error: What to raise.
            save_as: File for the weights as they are, relative to the run directory.
        """
        if not self._ended:
            self._late_stop = replace(stop, epoch=self.history.epoch)
            self.files.save_now(save_as, stop.reason.value, self.history.epoch)
            LOGGER.info(f"{stop.source}: {stop.message}, exiting with code {error.code}")
            self._end(error)
        raise error

    def _end(self, error: BaseException | None) -> None:
        """Let the callbacks finish and note how it ended. Rank 0, once."""
        if self._ended or not self._opened or not self.run.is_main:
            return
        self._ended = True
        if error is None:
            self.files.checkpoints.wait()
            if self.stop_decision is None and self.history and not self.history[-1].last:
                self._late_stop = replace(self.run.why_ended(), epoch=self.history.epoch)
        try:
            self._guarded("close", error)
            if error is None:
                self._restored = self.files.restored(self.ledger.decisions)
        except BaseException as failure:
            error = error or failure
            raise
        finally:
            self._conclude(error)
            self.files.wait(hurry=isinstance(error, SystemExit))
            self._guarded("deliver", error)

    def _conclude(self, error: BaseException | None) -> None:
        """Note in `run.json` how the run ended."""
        self._failed = error is not None
        self.files.conclude(self.history.epoch, self.stop_decision, error)

    def _close(self, error: BaseException | None) -> None:
        """Last of all: hand the model that was asked for to `model.train()`, and end the threads."""
        try:
            self._end(error)
            if self._opened and self.run.is_main:
                if error is not None and not self._failed:  # it was raised after we had dealt with the end
                    self._conclude(error)
                elif self._finished and self._restored is not None:
                    self._hand_over(*self._restored)
                self.files.close()
        finally:
            self._ended = True
            self._error_around = None  # its traceback may hold models
            self.run.release()

    def _hand_over(self, decision: SaveCheckpoint, path: Path) -> None:
        """Make the restored weights what `model.train()` returns with."""
        LOGGER.info(f"{decision.source}: the model is the one of epoch {decision.epoch}, {path}")
        if not is_worker():  # the launching process finds it by run.json
            self.run.use_as_result(path)

    def _guarded(self, step: str, *args: Any, only: Iterable[Participant] | None = None) -> None:
        """Run a step of the callbacks; see `_survive` for what becomes of an error.

        They are closed in reverse order, as everything is.
        """
        callbacks = list(self._callbacks.items())
        for name, callback in reversed(callbacks) if step == "close" else callbacks:
            if only is not None and all(callback is not item for item in only):
                continue
            try:
                getattr(callback, step)(self, *args)
            except Exception as error:
                self._survive(name, step, error)

    def _survive(self, name: str, step: str, error: Exception) -> None:
        """Tell once of a reporter's error; raise a controller's, or that it is set up to report what there is not."""
        controls = self._callbacks[name].priority < Priority.REPORT
        if controls or (step == "setup" and isinstance(error, UnknownMetricError)):
            raise error
        tell_once(self._told, f"{name}.{step}", error)


def _nothing() -> None:
    return None
