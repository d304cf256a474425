"""ValidationSchedule: train epochs without validation where it would tell little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.epochs import Epochs, check_epochs, epochs_in_words, in_epochs
from yolo_callbacks.core.forecast import AUTO
from yolo_callbacks.core.record import History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.core.validating import SECONDS, ValidationsFold
from yolo_callbacks.core.worth import WorthFold
from yolo_callbacks.support.checks import check_int, check_number
from yolo_callbacks.support.log import LOGGER

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session

_LAST = 0.4


class ValidationSchedule(Callback):
    """Validate only some epochs, and save the time of the others.

    Always validated are the first and the last epoch (unless a callback stops the run by a number of the training
    itself, such as `train_loss`); the last epoch with mosaic; the first of a finish; and each epoch in which a patience
    would run out, `EarlyStopping`'s, `ReduceLROnPlateau`'s or the trainer's own. A patience counts epochs.

    An epoch without validation has no metrics: its cells in `results.csv` are empty, it cannot become `best.pt`, and
    pictures have a gap there. Checkpoints are saved as ever. After `train(val=False)` the callback does nothing. What a
    schedule would have saved and lost in earlier runs is shown by `yolo-cb replay`; see docs/validation.md.

    Args:
        every: Validate every Nth epoch, N >= 1, or `"auto"`, which validates where a new best may lie, by the trend and
            the noise of the fitness so far. Defaults to 5.
        always_last: How many epochs at the end are all validated: a whole number >= 1, or a share of the planned epochs
            in (0, 1). None for 0.4, or for what `"auto"` finds worth it. Defaults to None.
        start_epoch: Number of epochs at the start that are not validated, except the first, >= 0. Defaults to 0.
        on_improvement: Number of epochs to validate after one with a new best fitness, >= 0. Defaults to 0.
        budget: Largest share of the run's time for validations, in (0, 1). Beyond it, only the epochs that are always
            validated are, and `every` may be exceeded. None for no limit. Defaults to None.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.ValidationSchedule(every=5, always_last=0.4)])
        ```
    """

    priority = Priority.MEASURE  # it makes no decision of its own
    critical = False

    def __init__(
        self,
        every: Union[int, str] = 5,
        always_last: Union[Epochs, None] = None,
        start_epoch: int = 0,
        on_improvement: int = 0,
        budget: Union[float, None] = None,
    ) -> None:
        if isinstance(every, str) and every != AUTO:
            raise ValueError(f"every={every!r} must be a whole number of epochs >= 1, or '{AUTO}'")
        self.every = every if isinstance(every, str) else check_int("every", every, minimum=1)
        self.always_last = None if always_last is None else check_epochs("always_last", always_last)
        self.start_epoch = check_int("start_epoch", start_epoch, minimum=0)
        self.on_improvement = check_int("on_improvement", on_improvement, minimum=0)
        bounds = {"minimum": 0.0, "maximum": 1.0}
        self.budget = None if budget is None else check_number("budget", budget, exclusive=True, **bounds)
        self._fold = ValidationsFold()
        self._worth = WorthFold()

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return a sentence if every epoch is validated."""
        planned, last = plan.planned_epochs, self._last(plan.planned_epochs)
        if not planned or max(2, last + 1) < planned:
            return ()
        return (f"no validation is skipped: the first epoch and the last {epochs_in_words(last)} are all of this run",)

    def can_skip_validation(self, history: History) -> bool:
        """Return whether the schedule leaves out the next epoch."""
        state, planned = history.fold(self._fold), history[-1].planned_epochs if history else 0
        epoch, mosaic = history.epoch + 1, history.plan.close_mosaic
        if not state.newest or epoch >= planned or (mosaic and epoch == planned - mosaic):
            return False
        if self.budget is not None and not state.fits(self.budget):
            return True
        wanted = state.improved and epoch - state.newest <= self.on_improvement
        wanted = epoch > self.start_epoch and (wanted or self._is_due(history, state.newest))
        return not wanted and epoch <= planned - self._last(planned)

    def validations(self, history: History, end: int) -> float | None:
        """Return how many of the epochs to come are validated; None if the budget or the metric decides."""
        if self.budget is not None or isinstance(self.every, str):
            return None
        first_of_last = end - self._last(end) + 1
        before = max(0, first_of_last - 1 - max(history.epoch, self.start_epoch))
        return before / self.every + max(0, end - max(history.epoch, first_of_last - 1))

    def _is_due(self, history: History, newest: int) -> bool:
        """Return whether the next epoch is one to validate by `every`."""
        if isinstance(self.every, str):
            return history.fold(self._worth).worth_it
        return (history.epoch + 1) % self.every == 0 or history.epoch + 1 - newest >= self.every

    def _last(self, planned_epochs: int) -> int:
        """Return how many epochs at the end are all validated."""
        if self.always_last is None:
            return 1 if self.every == AUTO else in_epochs(_LAST, planned_epochs)
        return in_epochs(self.always_last, planned_epochs)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the column of the validation's duration."""
        return (SECONDS,)

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return the duration of the epoch's validation, if there was one."""
        seconds = session.run.clock.seconds.get("validation")
        return {} if seconds is None else {SECONDS: seconds}

    def setup(self, session: Session) -> None:
        """Say so if the trainer does not validate at all."""
        if not session.run.validates:
            LOGGER.warning(f"{type(self).__name__} does nothing: train(val=False) already skips each validation")
