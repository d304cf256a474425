"""RunState: where one training stands and how it is set, read from its trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.classes import Classes
from yolo_callbacks.core.layer_patterns import Layers
from yolo_callbacks.core.record import Plan
from yolo_callbacks.trainer import introspection, ranks
from yolo_callbacks.trainer.ending import Ending
from yolo_callbacks.trainer.frozen_layers import FrozenLayers
from yolo_callbacks.trainer.learning_rate import base_schedule, lowest_group
from yolo_callbacks.trainer.patches.guarded_integrations import integrations
from yolo_callbacks.trainer.patches.platform import platform_model
from yolo_callbacks.trainer.per_class import classes_of


class RunState:
    """The reading half of `Run`. Nothing here changes the trainer.

    Epochs are counted from 1 here, as in `results.csv`; the trainer counts from 0.

    Args:
        trainer: An Ultralytics trainer.

    Attributes:
        save_dir: The run directory.
        checkpoint_epochs: Number of epochs of the loaded checkpoint, in a run that goes on from its saved state
            instead; None in any other run.
        epoch_is_open: True from the end of an epoch's batches to its first on_fit_epoch_end. The final evaluation
            sends that event once more, without any training before it.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._ending = Ending(trainer)
        self._classes: Classes | None = None
        self.save_dir = Path(trainer.save_dir)
        self.checkpoint_epochs: int | None = None
        self.epoch_is_open = False

    @property
    def trainer(self) -> Any:
        """The trainer itself, for a user's own callback; the callbacks of this package do not touch it."""
        return self._trainer

    # ---------------------------------------------------------------- processes

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, or the only one."""
        return ranks.is_main()

    @property
    def world_size(self) -> int:
        """Number of training processes; 0 or 1 without DDP."""
        return int(self._trainer.world_size or 0)

    # ---------------------------------------------------------------- epochs

    @property
    def epoch(self) -> int:
        """Number of the epoch that runs or has just ended, counted from 1; before the first, the last one's."""
        return int(vars(self._trainer).get("epoch", self.epochs_before - 1)) + 1

    @property
    def epochs_before(self) -> int:
        """Number of epochs that a resumed run had finished before; 0 for a fresh one."""
        return int(self._trainer.start_epoch)

    @property
    def planned_epochs(self) -> int:
        """Number of epochs planned now; the trainer's `time` argument moves it, and a finish brings it forward."""
        return int(self._trainer.epochs)

    @property
    def planned_before_finish(self) -> int:
        """Number of epochs that were planned before a finish brought the end forward; 0 if none did."""
        decision = self._ending.state.decision
        return decision.planned_epochs if decision is not None else 0

    @property
    def has_time_limit(self) -> bool:
        """Whether the number of planned epochs moves with the trainer's `time` argument."""
        return bool(self._trainer.args.time)

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from a checkpoint of an earlier process."""
        return bool(self._trainer.resume)

    @property
    def has_trained(self) -> bool:
        """Whether a batch has gone through the model in this process."""
        return vars(self._trainer).get("tloss") is not None

    @property
    def stopping(self) -> bool:
        """Whether the trainer ends after this epoch."""
        return bool(self._trainer.stop)

    @property
    def evaluates_finally(self) -> bool:
        """Whether the trainer is past its last epoch and has validated the finished model."""
        return not bool(getattr(self._trainer.validator, "training", True))

    # ---------------------------------------------------------------- files

    @property
    def callbacks_dir(self) -> Path:
        """Where journal, CSV, picture and `run.json` go."""
        return self.save_dir / "callbacks"

    @property
    def save_period(self) -> int:
        """Ultralytics' own `save_period`: above 0 it writes `epoch<N>.pt`, N counted from 0."""
        return int(self._trainer.args.save_period)

    @property
    def last_checkpoint(self) -> Path:
        """Ultralytics' `last.pt`."""
        return Path(self._trainer.last)

    @property
    def best_checkpoint(self) -> Path:
        """Ultralytics' `best.pt`."""
        return Path(self._trainer.best)

    @property
    def resumed_from(self) -> Path:
        """The checkpoint that a resumed run was loaded from: the one of the epoch before."""
        return Path(self._trainer.args.resume)

    # ---------------------------------------------------------------- plan and learning rate

    def plan(self) -> Plan:
        """Return what the run sets out to do."""
        return Plan(
            planned_epochs=self.planned_epochs,
            base_lr=self.scheduled_lr(1),
            final_lr=lowest_group(self._trainer)[1] * float(self._trainer.args.lrf),
            trainer_patience=int(self._trainer.args.patience or 0),
            warmup_epochs=introspection.warmup_epochs(self._trainer),
            close_mosaic=introspection.close_mosaic(self._trainer),
        )

    def scheduled_lr(self, epoch: int) -> float:
        """Return the learning rate that the trainer's own schedule gives an epoch, in the group with the lowest one.

        After a finish has begun, it is the rate of the shorter way to the end.
        """
        return lowest_group(self._trainer)[1] * base_schedule(self._trainer, self._ending.anneal)(epoch - 1)

    # ---------------------------------------------------------------- model and metrics

    def metric_names(self) -> tuple[Mapping[str, float], bool]:
        """Return the metrics that this run will have, and whether the names of its losses are among them.

        The criterion names the losses, which most tasks can ask before the first batch.
        """
        trainer = self._trainer
        losses = introspection.loss_names(trainer)
        names = ["fitness", *introspection.metric_names(trainer), *introspection.learning_rates(trainer)]
        names += [f"{split}/{name}" for split in ("train", "val") for name in losses]
        return dict.fromkeys(names, 0.0), bool(losses)

    @property
    def measures_more(self) -> bool:
        """Whether a validation may measure what `metric_names` does not know, since it is not Ultralytics' own."""
        return introspection.validates_in_its_own_way(self._trainer)

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of what is measured of every epoch's speed and memory."""
        return introspection.measure_names(self._trainer)

    @property
    def classes(self) -> Classes:
        """The classes of the run, known once the model is built. Rank 0."""
        if self._classes is None:
            self._classes = classes_of(self._trainer)
        return self._classes

    def parameters_of(self, layers: Layers) -> frozenset[str]:
        """Return the names of the parameters in some layers of the model, as `SetFrozen` names them.

        Raises:
            ValueError: If a pattern names nothing in the model; the message gives the nearest name.
        """
        return FrozenLayers(self._trainer).parameters(layers)

    def batch_losses(self) -> dict[str, float]:
        """Return the losses of the newest training batch. It waits for the device, as the trainer does itself."""
        return introspection.numbers(self._trainer.loss_items or {})

    @property
    def batches_per_epoch(self) -> int:
        """Number of training batches of an epoch; it grows if the first one has run out of memory."""
        return len(self._trainer.train_loader)

    # ---------------------------------------------------------------- descriptions

    def describe(self) -> dict[str, Any]:
        """Return what a reader of `run.json` wants to know of the run: versions, task, device, arguments."""
        return introspection.description(self._trainer)

    def validation_arguments(self) -> dict[str, Any]:
        """Return the arguments of `YOLO.val` that judge a checkpoint as this run judges it."""
        return introspection.validation_arguments(self._trainer)

    @property
    def integrations(self) -> tuple[str, ...]:
        """Which of Ultralytics' integrations take the metrics of this run's epochs: `platform`, `wb`, `mlflow`, ..."""
        return integrations(self._trainer)

    @property
    def platform_model(self) -> dict[str, str]:
        """The id of the run's model on the Ultralytics Platform and its address; empty if it is not there."""
        return platform_model(self._trainer)
