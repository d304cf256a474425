"""FreezeBackbone: freeze layers for the first epochs, then train them at their own learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import SetFrozen
from yolo_callbacks.core.epochs import Epochs, check_epochs, in_epochs
from yolo_callbacks.core.layer_patterns import LayerChoice, check_layers, layers_in_words
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_int, check_number, check_verbose, quoted

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session


class FreezeBackbone(Callback):
    """Freeze the backbone, or layers of your choice, for the first epochs, and unfreeze them after that.

    A frozen layer keeps its weights and its BatchNorm statistics bit by bit, in the model and in the EMA. Several of
    these callbacks, with different layers and epochs, unfreeze a network part by part: a layer is frozen while any of
    them wants it frozen. Layers frozen by Ultralytics' own `freeze` argument stay frozen. The column
    `FreezeBackbone/lr_factor` is the factor on these layers' learning rate, 0 while they are frozen; the `lr/pg*`
    columns are the rates of the other layers.

    Args:
        until_epoch: The last epoch in which the layers are frozen: a whole number >= 0, or a share of the planned
            epochs in (0, 1). With 0 they are never frozen, and only `lr_factor` applies.
        layers: None for the backbone of the model's YAML; a whole number n >= 1 for the first n layers; or a list of
            layers by index or by name. A name may be a pattern such as `"model.2*.cv3"` or `"*.bias"`; it stands for a
            parameter, or for a module with everything in it. Defaults to None.
        lr_factor: Factor on the learning rate of these layers once they are unfrozen, > 0. Defaults to 1.0.
        lr_ramp_epochs: Number of epochs in which this factor goes to 1, in equal steps; 0 keeps it. Defaults to 0.
        verbose: 1 logs a line when layers are frozen and unfrozen, 0 does not. Defaults to 1.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or, before the first epoch, if the model has no such layers or all
            its layers would be frozen.

    Example:
        ```python
        ycb.attach(model, [ycb.FreezeBackbone(10, lr_factor=0.1, lr_ramp_epochs=5)])
        ```
    """

    priority = Priority.DECIDE
    critical = True

    def __init__(
        self,
        until_epoch: Epochs,
        layers: LayerChoice = None,
        lr_factor: float = 1.0,
        *,
        lr_ramp_epochs: int = 0,
        verbose: int = 1,
    ) -> None:
        self.until_epoch = check_epochs("until_epoch", until_epoch, minimum=0)
        self.layers = layers
        self.lr_factor = check_number("lr_factor", lr_factor, minimum=0.0, exclusive=True)
        self.lr_ramp_epochs = check_int("lr_ramp_epochs", lr_ramp_epochs, minimum=0)
        self.verbose = check_verbose(verbose)
        if lr_ramp_epochs and self.lr_factor == 1.0:
            raise ValueError(f"lr_ramp_epochs={quoted(lr_ramp_epochs)} needs an lr_factor to start from, such as 0.1")
        self._layers = check_layers(layers)
        self._fold = _ThawFold(self.until_epoch)

    def setup(self, session: Session) -> None:
        """Check that the model has these layers, and that no epoch was trained before they are frozen.

        Raises:
            ValueError: If it has no such layers, or training has already begun.
        """
        try:
            session.run.parameters_of(self._layers)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None
        asked = any(isinstance(d, SetFrozen) and d.layers == self._layers for d in session.ledger.decisions)
        wanted = bool(self.decide(History(session.history.plan)))
        if wanted and (session.run.has_trained or not asked):
            raise ValueError(
                f"{type(self).__name__} comes too late, the training has begun: give it to ycb.attach(model, [...])"
            )

    def counters(self, history: History) -> Mapping[str, float]:
        """Return the factor on the layers' learning rate in the newest epoch; 0 if they were frozen."""
        thawed, epoch = history.fold(self._fold).after, max(history.epoch, 1)
        return {"lr_factor": 0.0 if thawed is None or epoch <= thawed else self._factor(epoch - 1 - thawed)}

    def decide(self, history: History) -> list[SetFrozen]:
        """Freeze before the first epoch, unfreeze after `until_epoch`, then follow the ramp."""
        state, epoch = history.fold(self._fold), history.epoch
        if state.after is None:
            return [] if epoch else [self._freeze(history.plan.planned_epochs)]
        factor, since = self._factor(epoch - state.after), epoch - state.after
        learn = SetFrozen("", epoch, layers=self._layers, frozen=False, lr_factor=factor)
        if since == 0 and state.after:
            return [replace(learn, message=f"unfroze {self._name}{_at(factor)}")]
        if (since == 0 and factor != 1.0) or 0 < since <= self.lr_ramp_epochs:
            message = f"{self._name} learns{_at(factor) or ' at the full learning rate'}"
            return [replace(learn, message=message, announce=since == 0, routine=True)]
        return []

    def _freeze(self, planned_epochs: int) -> SetFrozen:
        until = in_epochs(self.until_epoch, planned_epochs)
        share = f" ({self.until_epoch:g} of the planned epochs)" if isinstance(self.until_epoch, float) else ""
        return SetFrozen(f"froze {self._name} until the end of epoch {until}{share}", layers=self._layers)

    @property
    def _name(self) -> str:
        return "the backbone" if self._layers is None else layers_in_words(self._layers)

    def _factor(self, since: int) -> float:
        """Return the factor this many epochs after unfreezing."""
        if not self.lr_ramp_epochs:
            return self.lr_factor
        return (
            1.0 if since >= self.lr_ramp_epochs else self.lr_factor + (1 - self.lr_factor) * since / self.lr_ramp_epochs
        )


@dataclass(frozen=True)
class _Thaw:
    """The epoch after which the layers were unfrozen; None while they are frozen, 0 if they never were."""

    after: int | None


@dataclass(frozen=True)
class _ThawFold:
    """Finds when the layers are unfrozen, once and for all, even if the number of planned epochs changes later."""

    until_epoch: Epochs

    def initial(self, plan: Plan) -> _Thaw:
        return _Thaw(None if self.until_epoch else 0)

    def step(self, state: _Thaw, record: EpochRecord) -> _Thaw:
        if state.after is None and record.epoch >= in_epochs(self.until_epoch, record.planned_epochs):
            return _Thaw(record.epoch)
        return state


def _at(factor: float) -> str:
    return "" if factor == 1.0 else f" at {factor:.3g} of the learning rate"
