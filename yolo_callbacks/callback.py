"""Callback: the base of every callback, and the events drawn in their place in the training loop."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Union

from yolo_callbacks.core.checks import nearest
from yolo_callbacks.core.decision import Decision
from yolo_callbacks.core.record import History, Plan

if TYPE_CHECKING:
    from yolo_callbacks.core.session import Session

Decisions = Union[Decision, Iterable[Decision], None]

TRAIN_EVENTS = (
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_model_save",
    "on_fit_epoch_end",
    "on_train_end",
    "teardown",
)
VAL_EVENTS = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
EVENTS = TRAIN_EVENTS + VAL_EVENTS


class Priority(IntEnum):
    """Order within an epoch, lowest first: a reporter sees what a controller decided in the same epoch.

    An error in a callback up to `CHECKPOINT` raises, because a wrong decision is worse than a stopped run. An error
    in a `REPORT` callback's `measure`, `counters`, `setup`, `act`, `close` or `deliver` is logged once, and training
    goes on; one in `decide`, or in an event's own method, raises whatever the priority.
    """

    MEASURE = 0
    DECIDE = 100
    CHECKPOINT = 200
    REPORT = 300


class Callback:
    """Base class of all callbacks. Override what you need; everything has a default that does nothing.

    There are two ways to write one. **Events** are Ultralytics' own, with its trainer (or validator) as the only
    argument:

    ```text
    on_pretrain_routine_start          rank 0; no model, no optimizer yet
    on_pretrain_routine_end            everything is built, a resumed state is loaded
    on_train_start
    for each epoch:
        on_train_epoch_start           right before the scheduler's step
        for each batch:
            on_train_batch_start
            forward, backward, optimizer step
            on_train_batch_end         gradients are zero again
        on_train_epoch_end             before the validation: trainer.metrics are the last epoch's
        on_val_start                   (validator)
        for each batch:
            on_val_batch_start         (validator)
            on_val_batch_end           (validator)
        on_val_end                     (validator) rank 0
        on_model_save                  rank 0; last.pt, and best.pt if it is the best, are written
        on_fit_epoch_end               the epoch is complete
    on_train_end                       rank 0; after the final evaluation of best.pt; not after an exception
    teardown                           last of all; also after an exception (ultralytics >= 8.4.177)
    ```

    Ultralytics sends `on_fit_epoch_end` once more for the final evaluation of `best.pt`. An attached `Callback` does
    not get that one, so nothing is counted or plotted twice.

    **Steps** are this package's, all on rank 0: `measure` adds numbers to the epoch's record; `decide` looks at the
    history and returns what should happen, as a pure function, so that a resumed run decides as if it had never
    stopped; `setup`, `act`, `close` and `deliver` do things.

    Every parameter of `__init__` must be kept in an attribute of the same name: `get_config` and `repr` read it there.

    Example:
        >>> class StopAtHalf(Callback):
        ...     def decide(self, history):
        ...         if history.epoch >= history.plan.planned_epochs / 2:
        ...             return Stop("half is enough", epoch=history.epoch)
        >>> from yolo_callbacks import Stop
        >>> from yolo_callbacks.core.record import EpochRecord, Plan
        >>> StopAtHalf().decide(History(Plan(planned_epochs=2), [EpochRecord(1, {})])).message
        'half is enough'
    """

    priority: ClassVar[Priority] = Priority.REPORT

    replaces: ClassVar[str] = ""
    """The integration of Ultralytics whose work it does, such as `"tensorboard"`: that one is off in the run."""

    # ------------------------------------------------------------------------------------------------- pure

    def needs(self) -> Iterable[str]:
        """Return the names of the metrics that it looks at; a run that lacks one fails before its first epoch."""
        return ()

    def decide(self, history: History) -> Decisions:
        """Return what should happen after the newest epoch, or None.

        It is called once before the first epoch, with an empty history, and then after each. It must depend on
        nothing but the history (use `history.fold` for anything that runs over all epochs) and change nothing.
        """
        return None

    def counters(self, history: History) -> Mapping[str, float]:
        """Return the numbers worth a column in `epochs.csv`, such as how long there was no improvement."""
        return {}

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return what it can never do in a run that goes as planned: a sentence each, which is told at the start."""
        return ()

    def outputs(self) -> Iterable[str]:
        """Return the files that this callback writes, as paths in the run directory, so that no two write the same."""
        return ()

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

    def on_pretrain_routine_start(self, trainer: Any) -> None:
        """Called first of all, on rank 0."""
        self._enlist(trainer)

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        """Called when model, data and optimizer are ready."""
        self._enlist(trainer)

    def on_train_start(self, trainer: Any) -> None:
        """Called before the first epoch."""
        self._enlist(trainer)

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Called before each epoch, and again before a repeated one."""
        self._enlist(trainer)

    def on_train_batch_start(self, trainer: Any) -> None:
        """Called before each batch."""
        self._enlist(trainer)

    def on_train_batch_end(self, trainer: Any) -> None:
        """Called after each batch."""
        self._enlist(trainer)

    def on_train_epoch_end(self, trainer: Any) -> None:
        """Called after an epoch's batches, before its validation."""
        self._enlist(trainer)

    def on_model_save(self, trainer: Any) -> None:
        """Called when the trainer has written its checkpoints."""
        self._enlist(trainer)

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Called when an epoch is complete."""
        self._enlist(trainer)

    def on_train_end(self, trainer: Any) -> None:
        """Called after the final evaluation."""

    def teardown(self, trainer: Any) -> None:
        """Called last of all."""

    def on_val_start(self, validator: Any) -> None:
        """Called before a validation."""

    def on_val_batch_start(self, validator: Any) -> None:
        """Called before each batch of a validation."""

    def on_val_batch_end(self, validator: Any) -> None:
        """Called after each batch of a validation."""

    def on_val_end(self, validator: Any) -> None:
        """Called after a validation."""

    def _enlist(self, trainer: Any) -> None:
        """Take part in the run from a single registered method, `model.add_callback(event, callback.event)`."""
        from yolo_callbacks.core.session import Session

        Session.of(trainer).enlist(self)

    # ------------------------------------------------------------------------------------------------- itself

    def overrides(self, event: str) -> bool:
        """Return whether the class has a method of its own for this event."""
        return getattr(type(self), event) is not getattr(Callback, event)

    def get_config(self) -> dict[str, Any]:
        """Return the parameters that it was built with."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"


def check_events(callback: Callback) -> None:
    """Make sure that every method named like an event is one: Ultralytics accepts any name and never calls it.

    Raises:
        ValueError: If there is one that no training sends.
    """
    for name in dir(type(callback)):
        if name.startswith("on_") and name not in EVENTS:
            raise ValueError(
                f"{type(callback).__name__}.{name} is not an event of a training{nearest(name, EVENTS)}; events are "
                f"{', '.join(EVENTS)}"
            )
