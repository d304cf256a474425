"""Session: one training run with its callbacks. Carries each epoch from the trainer through journal and decisions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from yolo_callbacks.callback import Callback, Priority, check_events
from yolo_callbacks.core import storage
from yolo_callbacks.core.background import Background, tell_once
from yolo_callbacks.core.checkpoints import CheckpointStore
from yolo_callbacks.core.distributed import broadcast
from yolo_callbacks.core.export import export_checkpoint
from yolo_callbacks.core.journal import Entry, Journal, read_journal, read_results_csv
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.log import LOGGER
from yolo_callbacks.core.manifest import Manifest, read_manifest
from yolo_callbacks.core.metrics import UnknownMetricError
from yolo_callbacks.core.record import Decision, EpochRecord, History, SaveCheckpoint, SetLearningRate, Stop, StopReason
from yolo_callbacks.core.run import Run

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
_CLOSE_TIMEOUT = 120.0  # seconds that the end of a training waits for the last files and pictures


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


class Session:
    """Everything about one run of one trainer. Get it with `Session.of(trainer)`.

    Attributes:
        run: The facade over the trainer.
        history: The epochs so far; on rank 0 only.
        entries: The same with their decisions and counters, as the journal has them.
        decisions: All that was decided so far, in order.
        learning_rate: The factors in force.
    """

    def __init__(self, trainer: Any) -> None:
        self.run = Run(trainer)
        self.history = History()
        self.entries: list[Entry] = []
        self.learning_rate = LearningRateState()
        self.decisions: list[Decision] = []
        self._callbacks: dict[str, Callback] = {}
        self._opened = self._finished = self._closed = False
        self._asked_to_stop: Stop | None = None
        self._late_stop: Stop | None = None
        self._workers: dict[str, Background] = {}
        self._told: set[str] = set()
        self._facts: dict[str, Any] = {}
        self._exports: list[dict[str, Any]] = []

    @classmethod
    def of(cls, trainer: Any) -> Session:
        """Return the session of a trainer; a new trainer begins a new one."""
        attributes = vars(trainer)
        if _SLOT not in attributes:
            attributes[_SLOT] = cls(trainer)
        session: Session = attributes[_SLOT]
        return session

    # ---------------------------------------------------------------- who takes part

    def join(self, callbacks: Iterable[Callback], facts: Mapping[str, Any] | None = None) -> None:
        """Let callbacks take part, in order of their priority. Those that do already stay as they are."""
        new = [callback for callback in callbacks if all(callback is not known for known in self._callbacks.values())]
        self._facts.update(facts or {})
        if not new:
            return
        together = sorted([*self._callbacks.values(), *new], key=lambda callback: callback.priority)
        self._callbacks = label(together)
        if self._opened:
            self._check({name: callback for name, callback in self._callbacks.items() if callback in new})
            self._setup(new)

    def enlist(self, callback: Callback) -> None:
        """Let a callback take part that was registered by one of its methods alone, and listen to all it needs."""
        check_events(callback)
        self.join([callback])
        for event in LIFECYCLE_EVENTS:
            self.run.listen(event, Hook(event))

    @property
    def stop_decision(self) -> Stop | None:
        """The decision that ended the run, None while it goes on or when it ran to its end."""
        last = self.entries[-1].decisions if self.entries else ()
        return next((decision for decision in last if isinstance(decision, Stop)), self._late_stop)

    @property
    def ended(self) -> bool:
        """Whether the training is over."""
        return self._closed

    def callbacks(self) -> dict[str, Callback]:
        """Return who takes part, by label, in order of priority."""
        return dict(self._callbacks)

    def background(self, name: str) -> Background:
        """Return the run's worker of this name: `files` for short writes, another for anything slower."""
        if name not in self._workers:
            self._workers[name] = Background(name)
        return self._workers[name]

    def request_stop(self, stop: Stop) -> None:
        """Ask for the end of the run after the epoch that runs. Safe from any thread and from a signal handler."""
        self._asked_to_stop = stop

    def save_interrupted(self, file: str) -> None:
        """Save the weights as they are in the middle of an epoch; a failure is told and changes nothing."""
        try:
            self.checkpoints.keep_interrupted(file)
        except Exception as error:  # the exception that ended the training must not be hidden by this one
            tell_once(self._told, f"saving {file}", error)

    def export(self, file: str, formats: Iterable[str], arguments: Mapping[str, Any]) -> None:
        """Export a checkpoint of this run into `export/`, one format after the other; failures are told and noted."""
        checkpoint, folder = self.checkpoints.path(file), self.run.save_dir / "export"
        for name in formats:
            self._exports.append(export_checkpoint(checkpoint, folder, name, arguments))
            self.manifest.update(exports=list(self._exports))

    # ---------------------------------------------------------------- events

    def handle(self, event: str) -> None:
        """Deal with an event: what the session does itself first, then the callbacks' own methods for it."""
        extra = event == "on_fit_epoch_end" and self._opened and self._is_extra()
        if not extra:
            getattr(self, f"_{event}", _nothing)()
            for callback in self._callbacks.values():
                if callback.overrides(event):
                    getattr(callback, event)(self.run.trainer)
        if event == "teardown":
            self._close(None if self._finished or not self.run.is_main else sys.exc_info()[1])

    def _is_extra(self) -> bool:
        """Whether this on_fit_epoch_end is the final evaluation's."""
        return not self.run.epoch_is_open and (bool(self.entries) or self.run.is_final_evaluation())

    def _on_pretrain_routine_end(self) -> None:
        self._open()

    def _on_train_epoch_start(self) -> None:
        self._open()
        self.run.begin_epoch(self.learning_rate)

    def _on_train_epoch_end(self) -> None:
        self._open()
        self.run.end_train_part()
        if self.run.is_main:
            self.checkpoints.wait()

    def _on_model_save(self) -> None:
        self.run.checkpoint_was_saved()

    def _on_fit_epoch_end(self) -> None:
        self._open()
        decisions: tuple[Decision, ...] = ()
        if self.run.is_main:
            decisions = self._decide(self.run.end_epoch(self.learning_rate))
        self._apply(broadcast(decisions, self.run.world_size))
        if self.run.is_main:
            self._guarded("act")
            if self.run.stopping:
                self.checkpoints.wait()
        self.run.close_epoch()

    def _on_train_end(self) -> None:
        self._finished = True
        self._end(None)

    # ---------------------------------------------------------------- opening

    def _open(self) -> None:
        """Check what the callbacks ask for, take up an interrupted run, and set the callbacks up. Once a run."""
        if self._opened:
            return
        if self.run.is_main:
            self._check(self._callbacks)
            files = self.background("files")
            self.manifest = Manifest(self.run.callbacks_dir / "run.json", files)
            self.journal = Journal(self.run.callbacks_dir / "journal.jsonl")
            known = read_manifest(self.manifest.path).get("checkpoints", ()) if self.run.epochs_before else ()
            self.checkpoints = CheckpointStore(self.run, files, known, self._list_checkpoints)
            self._take_up()
        self.learning_rate = broadcast(self.learning_rate, self.run.world_size)
        self._opened = True
        if self.run.is_main:
            self._setup(self._callbacks.values())

    def _check(self, callbacks: Mapping[str, Callback]) -> None:
        names, losses_known = self.run.metric_names()
        for name, callback in callbacks.items():
            try:
                callback.check(names, losses_known)
            except UnknownMetricError as error:
                raise UnknownMetricError(f"{name}: {error}") from None
        check_outputs(self._callbacks, self.run.save_period)

    def _take_up(self) -> None:
        """Fold the epochs of an interrupted run into decisions as they would have been taken live."""
        self.history = History(self.run.plan())
        self._remember(self._ask())
        for record in self._earlier_epochs():
            self.history.append(record)
            self.entries.append(self._entry(record, self._ask()))
            self._remember(self.entries[-1].decisions)
        if self.entries:
            self.run.continue_clock(self.history[-1].elapsed)
            missing = (d for d in self.entries[-1].decisions if isinstance(d, SaveCheckpoint))
            for decision in (d for d in missing if not self.checkpoints.has(d)):
                self.checkpoints.keep(decision)
        self.journal.begin(self.history.plan, self.entries)
        configs = {name: {"class": type(c).__name__, **c.get_config()} for name, c in self._callbacks.items()}
        self.manifest.update(
            **self.run.describe(), **self._facts, callbacks=jsonable(configs), checkpoints=self.checkpoints.stored
        )

    def _earlier_epochs(self) -> list[EpochRecord]:
        """Return the epochs before this start, from the journal, and from results.csv where the journal lacks one."""
        done = self.run.epochs_before
        if not done:
            if self.journal.path.exists() and read_journal(self.journal.path)[1]:
                LOGGER.warning(f"An earlier run's journal is kept as {storage.set_aside(self.journal.path)}")
            return []
        records: dict[int, EpochRecord] = {}
        results = self.run.save_dir / "results.csv"
        if results.exists():
            records.update((record.epoch, record) for record in read_results_csv(results))
        if self.journal.path.exists():
            records.update((entry.record.epoch, entry.record) for entry in read_journal(self.journal.path)[1])
        return [records[epoch] for epoch in sorted(records) if epoch <= done]

    def _setup(self, callbacks: Iterable[Callback]) -> None:
        self._guarded("setup", callbacks=callbacks)

    # ---------------------------------------------------------------- one epoch

    def _decide(self, record: EpochRecord) -> tuple[Decision, ...]:
        self.history.append(record)
        asked, self._asked_to_stop = self._asked_to_stop, None
        decisions = self._ask() + ((replace(asked, epoch=record.epoch),) if asked else ())
        if not any(isinstance(decision, Stop) for decision in decisions) and (foreign := self.run.foreign_stop()):
            decisions += (replace(foreign, epoch=record.epoch, source="trainer"),)
        entry = self._entry(record, decisions)
        self.entries.append(entry)
        self.journal.append(entry)
        return decisions

    def _remember(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self.decisions.append(decision)
            self.learning_rate = self.learning_rate.after(decision)

    def _ask(self) -> tuple[Decision, ...]:
        """Collect every callback's decisions for the history as it stands. Pure."""
        decisions: list[Decision] = []
        for name, callback in self._callbacks.items():
            answer = callback.decide(self.history) or ()
            decisions += [replace(d, source=name) for d in ((answer,) if isinstance(answer, Decision) else answer)]
        at_end = bool(self.history) and self.history.epoch >= self.history[-1].planned_epochs
        return tuple(d for d in decisions if not (at_end and isinstance(d, (Stop, SetLearningRate))))

    def _entry(self, record: EpochRecord, decisions: tuple[Decision, ...]) -> Entry:
        counters = {
            f"{name}/{key}": value
            for name, callback in self._callbacks.items()
            for key, value in callback.counters(self.history).items()
        }
        return Entry(record, decisions, counters)

    def _apply(self, decisions: tuple[Decision, ...]) -> None:
        """Put decisions into force; the same on every rank but for the files, which are rank 0's."""
        self._remember(decisions)
        if any(isinstance(decision, Stop) and decision.source != "trainer" for decision in decisions):
            self.run.stop()
        if not self.run.is_main:
            return
        for decision in decisions:
            if isinstance(decision, SaveCheckpoint):
                self.checkpoints.keep(decision)
            if getattr(decision, "announce", True) and getattr(
                self._callbacks.get(decision.source), "verbose", 1
            ):
                LOGGER.info(f"{decision.source}: epoch {decision.epoch}: {decision.message}")
        if any(decision.label for decision in decisions):
            self._list_decisions()

    # ---------------------------------------------------------------- the end

    def _end(self, error: BaseException | None) -> None:
        """Let the callbacks finish and say in run.json how it ended. Rank 0, once."""
        if self._closed or not self._opened or not self.run.is_main:
            return
        self._closed = True
        if error is None:
            self.checkpoints.wait()
        if self.stop_decision is None and error is None and self.history.epoch < self.run.planned_epochs:
            self._late_stop = Stop("something else set trainer.stop", self.history.epoch, "trainer", StopReason.EXTERNAL)
        stop = self.stop_decision
        status = "failed" if error is not None else "stopped" if stop else "finished"
        self._list_decisions()
        self.manifest.update(
            status="interrupted" if isinstance(error, KeyboardInterrupt) else status,
            stop={"reason": stop.reason.value, "message": stop.message, "epoch": stop.epoch} if stop else None,
            error=f"{type(error).__name__}: {error}" if error is not None else None,
            epochs=self.history.epoch,
        )
        self._guarded("close", error)
        self.manifest.update(checkpoints=self.checkpoints.stored)
        for name, worker in self._workers.items():
            if not worker.wait(_CLOSE_TIMEOUT):
                LOGGER.warning(f"{name} did not finish within {_CLOSE_TIMEOUT:g} s and is left behind")

    def _close(self, error: BaseException | None) -> None:
        """Last of all: hand the model that was asked for to `model.train()`, and end the threads."""
        self._end(error)
        if self._finished and self.run.is_main:
            restore = [d for d in self.decisions if isinstance(d, SaveCheckpoint) and d.role == "restore"]
            path = self.checkpoints.finalize(restore[-1]) if restore else None
            if path is not None:
                LOGGER.info(f"{restore[-1].source}: the model is the one of epoch {restore[-1].epoch}, {path}")
                self.run.use_as_result(path)
        for worker in self._workers.values():
            worker.close(_CLOSE_TIMEOUT)
        self.run.release()

    # ---------------------------------------------------------------- helpers

    def _guarded(self, step: str, *args: Any, callbacks: Iterable[Callback] | None = None) -> None:
        """Run a step of the callbacks; a reporter's error is told once, a controller's is raised."""
        chosen = list(self._callbacks.values() if callbacks is None else callbacks)
        for name, callback in self._callbacks.items():
            if not any(callback is item for item in chosen):
                continue
            try:
                getattr(callback, step)(self, *args)
            except Exception as error:
                if callback.priority < Priority.REPORT:
                    raise
                tell_once(self._told, f"{name}.{step}", error)

    def _list_decisions(self) -> None:
        self.manifest.update(decisions=[decision.to_json() for decision in self.decisions if decision.label])

    def _list_checkpoints(self) -> None:
        self.manifest.update(checkpoints=self.checkpoints.stored)


def label(callbacks: Iterable[Callback]) -> dict[str, Callback]:
    """Name callbacks by their class; a second one of a class is `Name-2`, and so on."""
    labelled: dict[str, Callback] = {}
    for callback in callbacks:
        name, number = type(callback).__name__, 1
        while (key := name if number == 1 else f"{name}-{number}") in labelled:
            number += 1
        labelled[key] = callback
    return labelled


def check_outputs(callbacks: Mapping[str, Callback], save_period: int = 0) -> None:
    """Make sure that no two callbacks write the same file, nor one that Ultralytics writes.

    Raises:
        ValueError: If they do.
    """
    writers: dict[str, str] = {}
    for name, callback in callbacks.items():
        for file in callback.outputs():
            if file in writers:
                raise ValueError(f"{writers[file]} and {name} would both write {file}: give one of them another name")
            writers[file] = name
            number = file.removeprefix("weights/epoch").removesuffix(".pt")
            if save_period > 0 and number.isdigit():
                raise ValueError(f"{name} would write {file}, and so does Ultralytics with save_period={save_period}")


def jsonable(value: Any) -> Any:
    """Return a callback's configuration as JSON can hold it; a function becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return getattr(value, "__name__", str(value))


def _nothing() -> None:
    return None
