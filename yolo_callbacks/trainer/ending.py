"""Brings the end of a training forward, or follows its extension. Used only by `run.py` and `run_state.py`.

Ultralytics reads its planned number of epochs again in every epoch: for the last one, for the one that closes mosaic,
for progress bars and plots. What is set before an epoch holds for it; the learning rate is set in `learning_rate.py`.

One thing follows the originally planned epochs: the loss of YOLO26, which shifts from the one-to-many to the one-to-one
head during training. It keeps its pace, because speeding it up gave worse results (`benchmarks/finish.py`).
"""

from __future__ import annotations

import math
from typing import Any

from yolo_callbacks.core.extension import Extension
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.learning_rate import Anneal, Detour


class Ending:
    """The end of one training.

    Args:
        trainer: The trainer; not read before its model is built.

    Attributes:
        state: Whether and how the end was brought forward.
        extension: The newest extension of the run; None if it has none.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._loader: Any = None
        self._mosaic_is_open = True
        self._picture = -1
        self.state = FinishState()
        self.extension: Extension | None = None

    def apply(self, state: FinishState) -> None:
        """Apply the new end. Idempotent; call it on every rank whenever the trainer may have changed its plan.

        With `time`, the trainer does so after every epoch. Its own early stopping is suspended from then on: a finish
        follows a plateau, and the trainer would stop before the falling learning rate can bring an improvement.
        """
        self.state = state
        if not state.begun:
            return
        trainer = self._trainer
        trainer.epochs = state.end(trainer.epochs)
        trainer.stopper.patience = math.inf

    def begin_epoch(self) -> None:
        """Set what does not follow the planned end automatically."""
        if self._trainer.train_loader is not self._loader:
            self._loader, self._mosaic_is_open = self._trainer.train_loader, True
        if self.extension is not None:
            self._hold(self.extension)
        if self.state.begun:
            self._close_mosaic()

    def release(self) -> None:
        """Let go of the trainer."""
        self._trainer = self._loader = None

    @property
    def anneal(self) -> Anneal | None:
        """The learning rate's decay to the end; None while the trainer's own schedule applies."""
        decision, trainer = self.state.decision, self._trainer
        if decision is None:
            return None
        return Anneal(
            start=decision.epoch,
            last=self.state.end(trainer.epochs) - 1,
            first_lr=decision.base_lr,
            final=float(trainer.args.lrf),
            cosine=bool(trainer.args.cos_lr),
        )

    @property
    def detour(self) -> Detour:
        """Where the trainer's own schedule is left."""
        args = self._trainer.args
        return Detour(self.anneal, self.extension, float(args.lrf), bool(args.cos_lr))

    def _hold(self, extension: Extension) -> None:
        """Keep what an extension holds as it was: closed mosaic, and the share of YOLO26's one-to-many loss."""
        from ultralytics.utils.torch_utils import unwrap_model

        trainer, progress = self._trainer, extension.loss_progress
        if extension.mosaic_closed and self._mosaic_is_open:
            self._mosaic_is_open = False
            trainer._close_dataloader_mosaic()
            trainer.train_loader.reset()
        criterion: Any = getattr(unwrap_model(trainer.model), "criterion", None)
        if progress is not None and hasattr(criterion, "final_o2m"):  # recomputed by the trainer after each epoch
            criterion.o2m = (1 - progress) * (criterion.o2m_copy - criterion.final_o2m) + criterion.final_o2m
            criterion.o2o = max(criterion.total - criterion.o2m, 0)

    def _close_mosaic(self) -> None:
        """Close mosaic where the trainer misses it, and move its batch pictures to the new closing epoch.

        The trainer closes mosaic in exactly the closing epoch. But a resumed run, or a retry after running out of
        memory, has a new data loader with open mosaic: older trainers close that one by the end that was planned when
        they started, or not at all.
        """
        trainer, close = self._trainer, int(self._trainer.args.close_mosaic or 0)
        first = trainer.epochs - close
        if not close:
            return
        if self._mosaic_is_open and trainer.epoch > first and not _closes_it_late():
            trainer._close_dataloader_mosaic()
            trainer.train_loader.reset()
        if trainer.epoch >= first:
            self._mosaic_is_open = False
        picture = first * len(trainer.train_loader)
        if trainer.args.plots and picture != self._picture:
            self._picture = picture
            trainer.plot_idx.extend(range(picture, picture + 3))


def restart_patience(stopper: Any, epoch: int) -> None:
    """Let Ultralytics' own early stopping wait anew from an epoch on."""
    stopper.best_epoch, stopper.possible_stop = epoch, False


def _closes_it_late() -> bool:
    """Return whether the trainer closes mosaic in any of the last epochs, not only in the first of them."""
    from ultralytics.engine.trainer import BaseTrainer

    return "mosaic_closed" in BaseTrainer._do_train.__code__.co_varnames  # newer trainers keep track of it
