"""Looks at gradients before they are clipped.

Ultralytics sends no event between backward and the step of the optimizer: in on_train_batch_end all gradients are gone.
So the trainer's `optimizer_step` is replaced, on this trainer object alone, by a method that looks and calls it. The
trainer gets its own method back when the last watch is removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolo_callbacks.trainer.model.layers import unwrapped
from yolo_callbacks.trainer.model.watch import Watch


@dataclass(frozen=True)
class OptimizerStep:
    """One step of the optimizer, as the trainer is about to take it. Valid only while it is looked at.

    Attributes:
        number: Number of the step in its epoch, counted from 1; an epoch that is repeated begins at 1 again.
        gradients: Gradients by the names of their parameters, of all that have one, summed over the batches of the
            step and, with several ranks, over the ranks. They are the trainer's own: never change them.
        scale: What automatic mixed precision has multiplied them with, on their device; 1 without it. Divide by it.
    """

    number: int
    gradients: Mapping[str, Any]
    scale: Any


class GradientWatch(Watch):
    """Looks at the gradients of sampled steps of the optimizer."""

    def __init__(
        self,
        steps: OptimizerSteps,
        who: str,
        every: int,
        look: Callable[[OptimizerStep], None],
        clipped: Callable[[OptimizerStep], None] | None,
        done: Callable[[bool, Any], None] | None,
        begin: Callable[[], None] | None,
    ) -> None:
        super().__init__(who, every, begin)
        self.look, self.clipped, self.done = look, clipped, done
        self._steps = steps

    def remove(self) -> None:
        """Look no more, and give the trainer its own method back if nobody else looks."""
        super().remove()
        self._steps.drop(self)

    def skipped_steps(self) -> int:
        """Return how many steps of this epoch automatic mixed precision has left out; not only sampled ones count."""
        return int(self._steps.skipped)


class OptimizerSteps:
    """Stands in for the trainer's `optimizer_step` as long as a watch is there."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._watches: tuple[GradientWatch, ...] = ()
        self._own: Callable[..., Any] | None = None
        self._own_attribute: dict[str, Any] = {}
        self._model: Any = None
        self._parameters: list[tuple[str, Any]] = []
        self._one: Any = None
        self._number = 0
        self.skipped: Any = 0

    def add(self, watch: GradientWatch) -> None:
        """Add a watch."""
        if self._own is None:
            self._own, attributes = self._trainer.optimizer_step, vars(self._trainer)
            self._own_attribute = {name: attributes[name] for name in ("optimizer_step",) if name in attributes}
            self._trainer.optimizer_step = self._step
        self._watches += (watch,)

    def drop(self, watch: GradientWatch) -> None:
        """Remove a watch."""
        if self._trainer is None:
            return
        self._watches = tuple(item for item in self._watches if item is not watch)
        attributes = vars(self._trainer)
        # bound methods are equal, not identical; who has put another one over ours gets one that only passes on
        if not self._watches and attributes.get("optimizer_step") == self._step:
            del attributes["optimizer_step"]
            attributes.update(self._own_attribute)
            self._own = None

    def release(self) -> None:
        """Let go of the trainer when nobody looks any more: whoever keeps a watch must not keep a model with it."""
        self._trainer = self._model = self._own = self._one = None
        self._parameters, self._own_attribute = [], {}

    def begin_epoch(self) -> None:
        """An epoch starts, or starts again."""
        self._number, self.skipped = 0, 0

    def _step(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the trainer does in its place, and let it be looked at."""
        own: Callable[..., Any] = self._own  # type: ignore[assignment]  # there as long as this can be called
        self._number += 1
        due = [watch for watch in self._watches if watch.due(self._number)]
        scaler = getattr(self._trainer, "scaler", None)
        scaler = scaler if self._watches and scaler is not None and scaler.is_enabled() else None
        if not due and scaler is None:
            return own(*args, **kwargs)
        scale = self._scale(scaler)
        step = None
        for watch in due:
            with watch.guarded():
                step = step or OptimizerStep(self._number, self._gradients(), scale)
                watch.look(step)
        stepped: list[bool] = []
        with self._before_optimizer(due, stepped):
            result = own(*args, **kwargs)
        skipped = None if scaler is None else self._scale(scaler) < scale
        if skipped is not None:
            self.skipped = self.skipped + skipped
        for watch in due:
            if watch.active and watch.done is not None:
                with watch.guarded():
                    watch.done(bool(stepped), skipped)
        return result

    def _scale(self, scaler: Any) -> Any:
        """Return what gradients are multiplied with, without waiting for the device as `get_scale()` would."""
        if self._one is None:
            import torch

            self._one = torch.ones((), device=self._trainer.device)
        return self._one if scaler is None else scaler.scale(self._one)

    def _gradients(self) -> dict[str, Any]:
        if self._model is not self._trainer.model:  # to go through all modules takes as long as to measure
            self._model = self._trainer.model
            self._parameters = list(unwrapped(self._model).named_parameters())
        return {name: parameter.grad for name, parameter in self._parameters if parameter.grad is not None}

    @contextlib.contextmanager
    def _before_optimizer(self, due: Sequence[GradientWatch], stepped: list[bool]) -> Iterator[None]:
        """See the gradients again as the optimizer gets them, unscaled and clipped, and note that it does.

        The hook is put on the optimizer for one step: running out of memory may make the trainer build another one.
        """
        due = [watch for watch in due if watch.active and (watch.clipped is not None or watch.done is not None)]
        if not due:
            yield
            return

        def look(*_: Any) -> None:
            if stepped:
                return
            stepped.append(True)
            step = None
            for watch in due:
                if watch.active and watch.clipped is not None:
                    with watch.guarded():
                        step = step or OptimizerStep(self._number, self._gradients(), self._one)
                        watch.clipped(step)

        handle = self._trainer.optimizer.register_step_pre_hook(look)
        try:
            yield
        finally:
            handle.remove()
