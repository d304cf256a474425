"""The whole state of a training between two epochs: read from its trainer, and put back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from yolo_callbacks.trainer.exact import conditions
from yolo_callbacks.trainer.exact.data_order import DataOrder
from yolo_callbacks.trainer.exact.host_copy import HostCopy
from yolo_callbacks.trainer.exact.random_state import (
    dataset_state,
    generators,
    mosaic_is_open,
    set_dataset_state,
    set_generators,
)
from yolo_callbacks.trainer.patches.accumulation import hold_steps, note_steps

_STOPPER = ("best_fitness", "best_epoch", "possible_stop")  # its patience may be another one after a resume


class TrainingState:
    """Follows a training, so that its state can be read after any epoch and put back before the first resumed one.

    Every rank has its own.

    Args:
        trainer: The trainer; looked at only when it is set up.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._orders: tuple[DataOrder, ...] = ()
        self._copy = HostCopy()
        self._digests: dict[str, str] = {}
        self._digested: tuple[Any, ...] = ()
        self._undo: list[Callable[[], None]] = []
        self._stop_holding: Callable[[], None] | None = None
        self._begun: int | None = None  # the epoch that has begun, as the trainer counts
        self._last_step = -1

    # ------------------------------------------------------------------------------------ what must be the same

    def obstacles(self) -> list[str]:
        """Return why this training cannot be resumed exactly; nothing if it can."""
        return conditions.obstacles(self._trainer)

    def look_at_data(self) -> None:
        """Take the fingerprints of the data sets, unless they are known; from any thread."""
        datasets = self._trainer.train_loader.dataset, self._trainer.test_loader.dataset
        if any(dataset is not known for dataset, known in zip(datasets, self._digested or (None, None))):
            digests = [conditions.data_digest(dataset) for dataset in datasets]
            self._digests = dict(zip(("training images", "validation images"), digests))
            self._digested = datasets

    def conditions(self) -> dict[str, Any]:
        """Return what must be the same before and after an interruption."""
        self.look_at_data()
        return conditions.conditions(self._trainer, self._digests)

    def misfits(self, state: Mapping[str, Any]) -> list[str]:
        """Return why a state cannot be put into this model and optimizer; nothing if it can."""
        own = {name: value.shape for name, value in self._model.state_dict().items()}
        saved = {name: value.shape for name, value in state["model"].items() if not name.startswith("criterion.")}
        if {name: shape for name, shape in own.items() if not name.startswith("criterion.")} != saved:
            return ["the model is another one"]
        groups = [len(group["params"]) for group in self._trainer.optimizer.param_groups]
        if groups != [len(group["params"]) for group in state["optimizer"]["param_groups"]]:
            return ["the optimizer has other parameter groups"]
        if state["dataset"]["mosaic"] and not mosaic_is_open(self._trainer.train_loader.dataset):
            return ["this version of Ultralytics has closed mosaic for the resume, and would not have without one"]
        return []

    # ------------------------------------------------------------------------------------ following

    def begin_epoch(self, before_workers: Callable[[], Any]) -> None:
        """An epoch starts, or starts again: follow its loaders, which may be new ones.

        Args:
            before_workers: Called before a loader starts its workers.
        """
        trainer = self._trainer
        if self._begun == trainer.epoch:  # the loop forgets its last step here, too
            self._stop_hold()
        self._begun = trainer.epoch
        if not self._orders or self._orders[0].loader is not trainer.train_loader:
            self._release_orders()
            self._orders = (
                DataOrder(
                    trainer.train_loader,
                    ships=True,
                    before_workers=before_workers,
                    closes_mosaic=lambda: bool(trainer.epoch == trainer.epochs - int(trainer.args.close_mosaic or 0)),
                ),
                DataOrder(trainer.test_loader, ships=False, before_workers=before_workers),
            )
        if not self._undo:
            self._undo.append(note_steps(trainer, self._note_step))
        self._orders[0].begin_pass()

    def _batch(self) -> int:
        """Return the number of the batch that runs, as the trainer counts: over all epochs, from 0."""
        order = self._orders[0]
        return int(self._trainer.epoch) * len(order.loader) + order.batches_in_pass - 1

    def _note_step(self) -> None:
        self._last_step = self._batch()
        self._stop_hold()

    # ------------------------------------------------------------------------------------ reading

    def capture(self) -> dict[str, Any] | None:
        """Return a copy of the state after the epoch that has just ended; None if it was not a whole epoch.

        The next call overwrites the copy.

        Raises:
            UnknownKindError: If something of the trainer cannot be saved.
        """
        trainer = self._trainer
        train, val = (order.state() for order in self._orders) if self._orders else (None, None)
        if train is None or val is None or not train["begun"]:
            return None
        model, stopper = self._model, vars(trainer.stopper)
        return self._copy.take(
            {
                "model": model.state_dict(),
                "ema": trainer.ema.ema.state_dict(),
                "updates": trainer.ema.updates,
                "optimizer": trainer.optimizer.state_dict(),
                "scaler": trainer.scaler.state_dict(),
                "gradients": {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
                "accumulate": int(trainer.accumulate),
                "last_step": self._last_step,
                "criterion": _numbers(getattr(model, "criterion", None)),
                "stopper": {name: stopper[name] for name in _STOPPER if name in stopper},
                "best_fitness": trainer.best_fitness,
                "fitness": trainer.fitness,
                "metrics": trainer.metrics,
                "loss_names": list(trainer.loss_names or ()),
                "train_data": train,
                "val_data": val,
                "dataset": dataset_state(trainer.train_loader.dataset),
                "generators": generators(trainer.device),
            }
        )

    # ------------------------------------------------------------------------------------ putting back

    def prepare(self, epochs: int, state: Mapping[str, Any]) -> None:
        """Let the training go on after so many epochs: what is looked at before the first one.

        Args:
            epochs: Number of epochs that the state has behind it.
            state: What `capture` has returned.
        """
        trainer = self._trainer
        trainer.start_epoch = epochs
        trainer.scheduler.last_epoch = epochs - 1
        vars(trainer.stopper).update(state["stopper"])
        trainer.best_fitness, trainer.fitness = state["best_fitness"], state["fitness"]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put a state back. To be called after `begin_epoch` of the first epoch.

        Generators are set when the first batch is asked for: between here and there, mosaic may be closed once more.
        """
        trainer, model, device = self._trainer, self._model, self._trainer.device
        if state["criterion"] is not None:  # first, as one that is a module is a part of the model's state
            if getattr(model, "criterion", None) is None:
                model.criterion = model.init_criterion()
            vars(model.criterion).update(state["criterion"])
        model.load_state_dict(state["model"])
        trainer.ema.ema.load_state_dict(state["ema"])
        trainer.ema.updates = state["updates"]
        for saved, group in zip(state["optimizer"]["param_groups"], trainer.optimizer.param_groups):
            saved["fused"] = group.get("fused")
        trainer.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            trainer.scaler.load_state_dict(state["scaler"])
        gradients = state["gradients"]
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name].to(device) if name in gradients else None
        trainer.metrics, trainer.loss_names = state["metrics"], tuple(state["loss_names"])
        trainer.accumulate, self._last_step = state["accumulate"], state["last_step"]
        self._stop_holding = hold_steps(trainer, lambda accumulate: self._batch() - self._last_step >= accumulate)

        def set_random() -> None:
            set_dataset_state(trainer.train_loader.dataset, state["dataset"])
            set_generators(state["generators"], device)

        train, val = self._orders
        train.restore(state["train_data"], set_random)
        val.restore(state["val_data"])

    def has_nan(self) -> bool:
        """Return whether the epoch that has just ended gave NaN: an uninterrupted run would have repeated it."""
        loss, fitness = self._trainer.loss, self._trainer.fitness
        numbers = [] if loss is None else [float(loss.detach())]
        return not all(map(math.isfinite, numbers if fitness is None else [*numbers, float(fitness)]))

    # ------------------------------------------------------------------------------------ the end

    def release(self) -> None:
        """Leave the trainer as it was, and let go of it."""
        self._stop_hold()
        self._release_orders()
        while self._undo:
            self._undo.pop()()
        self._trainer, self._copy, self._digested = None, HostCopy(), ()

    def _release_orders(self) -> None:
        for order in self._orders:
            order.release()
        self._orders = ()

    def _stop_hold(self) -> None:
        if self._stop_holding is not None:
            self._stop_holding()
            self._stop_holding = None

    @property
    def _model(self) -> Any:
        from ultralytics.utils.torch_utils import unwrap_model

        return unwrap_model(self._trainer.model)


def _numbers(criterion: Any) -> dict[str, Any] | None:
    """Return a criterion's own numbers: YOLO26's passes from its one-to-many to its one-to-one head by them."""
    if criterion is None:
        return None
    return {name: value for name, value in vars(criterion).items() if type(value) in (bool, int, float)}
