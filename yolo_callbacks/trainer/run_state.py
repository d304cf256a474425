"""RunState: the state and settings of one training, read from its trainer."""

from __future__ import annotations

import time
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

    Epochs are counted from 1, as in `results.csv`; the trainer counts from 0.

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
        """The trainer itself, for users' callbacks; the callbacks of this package do not use it."""
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
        """Number of the current or last epoch, counted from 1; before the first, the number of finished epochs."""
        return int(vars(self._trainer).get("epoch", self.epochs_before - 1)) + 1

    @property
    def epochs_before(self) -> int:
        """Number of epochs that a resumed run had finished; 0 for a fresh run."""
        return int(self._trainer.start_epoch)

    @property
    def planned_epochs(self) -> int:
        """Number of epochs planned now; the trainer's `time` argument changes it, and a finish reduces it."""
        return int(self._trainer.epochs)

    @property
    def planned_before_finish(self) -> int:
        """Number of epochs that were planned before a finish; 0 if there was none."""
        decision = self._ending.state.decision
        return decision.planned_epochs if decision is not None else 0

    @property
    def has_time_limit(self) -> bool:
        """Whether the trainer's `time` argument changes the number of planned epochs."""
        return bool(self._trainer.args.time)

    @property
    def seconds_to_limit(self) -> float | None:
        """Seconds until the trainer's `time` limit, negative after it; None without one."""
        started = vars(self._trainer).get("train_time_start")
        hours = self._trainer.args.time
        return started + 3600.0 * float(hours) - time.time() if hours and started is not None else None

    @property
    def resumed(self) -> bool:
        """Whether the run resumes from a checkpoint of an earlier process."""
        return bool(self._trainer.resume)

    @property
    def validates(self) -> bool:
        """Whether the trainer validates every epoch of its own accord; False after `train(val=False)`."""
        return bool(self._trainer.args.val)

    @property
    def has_trained(self) -> bool:
        """Whether a batch has been trained in this process."""
        return vars(self._trainer).get("tloss") is not None

    @property
    def stopping(self) -> bool:
        """Whether the trainer ends after this epoch."""
        return bool(self._trainer.stop)

    @property
    def evaluates_finally(self) -> bool:
        """Whether the trainer has passed its last epoch and validated the final model."""
        return not bool(getattr(self._trainer.validator, "training", True))

    # ---------------------------------------------------------------- files

    @property
    def callbacks_dir(self) -> Path:
        """The folder of journal, CSV, picture and `run.json`."""
        return self.save_dir / "callbacks"

    @property
    def save_period(self) -> int:
        """Ultralytics' `save_period`: above 0 it writes `epoch<N>.pt`, with N counted from 0."""
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
        """The checkpoint that a resumed run was loaded from."""
        return Path(self._trainer.args.resume)

    # ---------------------------------------------------------------- plan and learning rate

    def plan(self) -> Plan:
        """Return the plan of the run."""
        return Plan(
            planned_epochs=self.planned_epochs,
            base_lr=self.scheduled_lr(1),
            final_lr=lowest_group(self._trainer)[1] * float(self._trainer.args.lrf),
            trainer_patience=int(self._trainer.args.patience or 0),
            warmup_epochs=introspection.warmup_epochs(self._trainer),
            close_mosaic=introspection.close_mosaic(self._trainer),
        )

    def scheduled_lr(self, epoch: int) -> float:
        """Return an epoch's learning rate by the trainer's own schedule, in the group with the lowest rate.

        After a finish has begun, it is the rate of the shortened decay; in an extension, that of its schedule.
        """
        return lowest_group(self._trainer)[1] * base_schedule(self._trainer, self._ending.detour)(epoch - 1)

    # ---------------------------------------------------------------- model and metrics

    def metric_names(self) -> tuple[Mapping[str, float], bool]:
        """Return the metrics that this run will have, and whether they include its losses.

        The criterion names the losses; for most tasks they are known before the first batch.
        """
        trainer = self._trainer
        losses = introspection.loss_names(trainer)
        names = ["fitness", *introspection.metric_names(trainer), *introspection.learning_rates(trainer)]
        names += [f"{split}/{name}" for split in ("train", "val") for name in losses]
        return dict.fromkeys(names, 0.0), bool(losses)

    @property
    def measures_more(self) -> bool:
        """Whether a custom validation may measure more than `metric_names` knows."""
        return introspection.validates_in_its_own_way(self._trainer)

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of the measurements of each epoch's speed and memory."""
        return introspection.measure_names(self._trainer)

    @property
    def classes(self) -> Classes:
        """The classes of the run. Rank 0, once the model is built."""
        if self._classes is None:
            self._classes = classes_of(self._trainer)
        return self._classes

    def parameters_of(self, layers: Layers) -> frozenset[str]:
        """Return the names of the parameters in some layers of the model, as `SetFrozen` names them.

        Raises:
            ValueError: If a pattern matches nothing in the model; the message gives the nearest name.
        """
        return FrozenLayers(self._trainer).parameters(layers)

    def batch_losses(self) -> dict[str, float]:
        """Return the losses of the newest training batch. Waits for the device, as the trainer itself does."""
        return introspection.numbers(self._trainer.loss_items or {})

    @property
    def batches_per_epoch(self) -> int:
        """Number of training batches per epoch; it grows if the first one has run out of memory."""
        return len(self._trainer.train_loader)

    @property
    def images_per_epoch(self) -> int:
        """Number of training images per epoch, over all ranks."""
        return len(self._trainer.train_loader.dataset)

    # ---------------------------------------------------------------- descriptions

    def describe(self) -> dict[str, Any]:
        """Return the run's versions, task, device and arguments for `run.json`."""
        return introspection.description(self._trainer)

    def validation_arguments(self) -> dict[str, Any]:
        """Return the arguments of `YOLO.val` that validate a checkpoint as this run does."""
        return introspection.validation_arguments(self._trainer)

    @property
    def verbose(self) -> bool:
        """Whether the trainer logs as usual."""
        return introspection.is_verbose(self._trainer)

    @property
    def integrations(self) -> tuple[str, ...]:
        """The Ultralytics integrations that receive the metrics of this run: `platform`, `wb`, `mlflow`, ..."""
        return integrations(self._trainer)

    @property
    def platform_model(self) -> dict[str, str]:
        """The id and, if known, the URL of the run's model on the Ultralytics Platform; empty if it has none."""
        return platform_model(self._trainer)
