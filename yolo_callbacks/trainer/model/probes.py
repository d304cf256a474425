"""Probes: what no event shows of a training, such as gradients before clipping and outputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from yolo_callbacks.trainer.model.activation_watch import ActivationWatch
from yolo_callbacks.trainer.model.gradient_watch import GradientWatch, OptimizerStep, OptimizerSteps
from yolo_callbacks.trainer.model.layers import unwrapped
from yolo_callbacks.trainer.model.watch import Watch


class Probes:
    """The gradient and activation watches of one training.

    Args:
        trainer: The trainer, after its model is built.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._steps = OptimizerSteps(trainer)
        self._watches: list[Watch] = []

    def watch_gradients(
        self,
        who: str,
        look: Callable[[OptimizerStep], None],
        every: int,
        clipped: Callable[[OptimizerStep], None] | None = None,
        done: Callable[[bool, Any], None] | None = None,
        begin: Callable[[], None] | None = None,
    ) -> GradientWatch:
        """See `ModelView.watch_gradients`."""
        watch = GradientWatch(self._steps, who, every, look, clipped, done, begin)
        self._steps.add(watch)
        self._watches.append(watch)
        return watch

    def watch_activations(
        self,
        who: str,
        layers: Iterable[str],
        look: Callable[[int, str, Any], None],
        every: int,
        begin: Callable[[], None] | None = None,
    ) -> ActivationWatch:
        """See `ModelView.watch_activations`."""
        modules = dict(unwrapped(self._trainer.model).named_modules())
        watch = ActivationWatch(self._trainer, who, every, {name: modules[name] for name in layers}, look, begin)
        self._watches.append(watch)
        return watch

    def begin_epoch(self) -> None:
        """Begin an epoch, or a repeated one."""
        self._steps.begin_epoch()
        for watch in self._watches:
            watch.begin_epoch()

    def remove(self) -> None:
        """Remove all watches, and drop the trainer."""
        for watch in self._watches:
            watch.remove()
        self._watches.clear()
        self._steps.release()
        self._trainer = None
