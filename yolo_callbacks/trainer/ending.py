"""The end of a training, brought forward in its trainer. Used by `run.py` alone.

Ultralytics reads its planned end anew in every epoch: for the last one, for the one that closes mosaic, for progress
bars and plots. What is set before an epoch holds for it; the learning rate is set in `learning_rate.py`.

One thing keeps to the epochs that were asked for: the loss of YOLO26, which passes from its one-to-many to its
one-to-one head over a training. It goes on at its own pace; to hurry it to its end was worse (`benchmarks/finish.py`).
"""

from __future__ import annotations

import math
from typing import Any

from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.learning_rate import Anneal


class Ending:
    """Where one training ends.

    Args:
        trainer: The trainer; looked at only when its model is built.

    Attributes:
        state: Whether the end was brought forward.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._loader: Any = None
        self._mosaic_is_open = True
        self._picture = -1
        self.state = FinishState()

    def apply(self, state: FinishState) -> None:
        """Put the end in force. Idempotent, and to be called on every rank whenever the trainer may have planned anew.

        With `time` it does so after every epoch. Its own early stopping is held from then on: a finish is what follows
        a plateau, and it would look for a better epoch while the learning rate has only begun to fall.
        """
        self.state = state
        if not state.begun:
            return
        trainer = self._trainer
        trainer.epochs = state.end(trainer.epochs)
        trainer.stopper.patience = math.inf

    def begin_epoch(self) -> None:
        """Set what does not follow the planned end by itself."""
        if self._trainer.train_loader is not self._loader:
            self._loader, self._mosaic_is_open = self._trainer.train_loader, True
        if self.state.begun:
            self._close_mosaic()

    def release(self) -> None:
        """Let go of the trainer."""
        self._trainer = self._loader = None

    @property
    def anneal(self) -> Anneal | None:
        """The way of the learning rate to the end; None while the trainer's own schedule holds."""
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

    def _close_mosaic(self) -> None:
        """Close mosaic where the trainer misses it, and let it draw the pictures of where it closes now.

        It closes mosaic by itself in the very epoch. But the loader of a resumed run, or of a retry after running out
        of memory, is a new one, whose mosaic is open: older trainers close that one by the end that was planned when
        they began, or not at all.
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


def _closes_it_late() -> bool:
    """Return whether the trainer closes mosaic in any of the last epochs, and not in the first of them alone."""
    from ultralytics.engine.trainer import BaseTrainer

    return "mosaic_closed" in BaseTrainer._do_train.__code__.co_varnames  # newer ones keep account of it
