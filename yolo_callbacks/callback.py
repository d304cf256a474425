"""Callback: the base class of all callbacks, with the order of the events in the training loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from typing import Any

from yolo_callbacks.core.events import TRAIN_EVENTS
from yolo_callbacks.session.participant import Participant
from yolo_callbacks.session.session import Session


class Callback(Participant[Session]):
    """Base class of all callbacks. Override what you need; every method does nothing by default.

    There are two ways to write a callback. **Events** are Ultralytics' own, with its trainer (or validator) as the
    only argument:

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
        on_train_epoch_end             before the validation: trainer.metrics are the previous epoch's
        on_val_start                   (validator)
        for each batch:
            on_val_batch_start         (validator)
            on_val_batch_end           (validator)
        on_val_end                     (validator) rank 0
        on_model_save                  rank 0; last.pt is written, and best.pt if this epoch is the best
        on_fit_epoch_end               the epoch is complete
    on_train_end                       rank 0; after the final evaluation of best.pt; not after an exception
    teardown                           at the very end; also after an exception (ultralytics >= 8.4.177)
    ```

    Ultralytics sends `on_fit_epoch_end` once more for the final evaluation of `best.pt`. An attached `Callback` does
    not receive that one, so nothing is counted or plotted twice.

    **Steps** are this package's, all on rank 0: `measure` adds numbers to the epoch's record; `decide` looks at the
    history and returns what should happen, as a pure function, so that a resumed run decides as if it had never
    stopped; `setup`, `act`, `close` and `deliver` do things. `priority` says when the steps of a class are called, and
    `critical` whether an error in one of them ends the training.

    Every parameter of `__init__` must be kept in an attribute of the same name: `get_config` and `repr` read it there.

    Example:
        >>> class StopAtHalf(Callback):
        ...     def decide(self, history):
        ...         if history.epoch >= history.plan.planned_epochs / 2:
        ...             return Stop("half is enough", epoch=history.epoch)
        >>> from yolo_callbacks import EpochRecord, History, Plan, Stop
        >>> StopAtHalf().decide(History(Plan(planned_epochs=2), [EpochRecord(1, {})])).message
        'half is enough'
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        _let_enlist(cls)

    # ------------------------------------------------------------------------------------------------- events

    def on_pretrain_routine_start(self, trainer: Any) -> None:
        """Called at the very start, on rank 0."""

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        """Called when model, data and optimizer are ready."""

    def on_train_start(self, trainer: Any) -> None:
        """Called before the first epoch."""

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Called before each epoch, and again before a repeated one."""

    def on_train_batch_start(self, trainer: Any) -> None:
        """Called before each batch."""

    def on_train_batch_end(self, trainer: Any) -> None:
        """Called after each batch."""

    def on_train_epoch_end(self, trainer: Any) -> None:
        """Called after an epoch's batches, before its validation."""

    def on_model_save(self, trainer: Any) -> None:
        """Called when the trainer has written its checkpoints."""

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Called when an epoch is complete."""

    def on_train_end(self, trainer: Any) -> None:
        """Called after the final evaluation."""

    def teardown(self, trainer: Any) -> None:
        """Called at the very end."""

    def on_val_start(self, validator: Any) -> None:
        """Called before a validation."""

    def on_val_batch_start(self, validator: Any) -> None:
        """Called before each batch of a validation."""

    def on_val_batch_end(self, validator: Any) -> None:
        """Called after each batch of a validation."""

    def on_val_end(self, validator: Any) -> None:
        """Called after a validation."""

    # ------------------------------------------------------------------------------------------------- itself

    def overrides(self, event: str) -> bool:
        """Return whether the class overrides the method of this event."""
        return getattr(type(self), event) is not getattr(Callback, event)


_ENLISTING = tuple(event for event in TRAIN_EVENTS if event not in ("on_train_end", "teardown"))
"""Events that add a callback to a run; the others come when the run is over."""


def _let_enlist(cls: type[Callback]) -> None:
    """Make the event methods of a class add the callback to the run, so that registering one of them is enough.

    As in `model.add_callback("on_fit_epoch_end", callback.on_fit_epoch_end)`. An overriding method adds the callback
    only if it is registered itself, because a test or another callback may call it too. The base class's method
    always does, because a registered function may call it.
    """
    for event in _ENLISTING:
        if isfunction(vars(cls).get(event)):
            setattr(cls, event, _enlisting(event, vars(cls)[event], does_nothing=cls is Callback))


def _enlisting(
    event: str, method: Callable[[Callback, Any], None], *, does_nothing: bool
) -> Callable[[Callback, Any], None]:
    @wraps(method)
    def enlist_and_call(callback: Callback, trainer: Any) -> None:
        if does_nothing or getattr(callback, event) in getattr(trainer, "callbacks", {}).get(event, ()):
            Session.of(trainer).enlist(callback)
        method(callback, trainer)

    return enlist_and_call


_let_enlist(Callback)
