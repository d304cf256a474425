"""Watches gradients before they are clipped.

Ultralytics sends no event between backward and the optimizer's step; in on_train_batch_end all gradients are zero. So
`optimizer_step` is replaced, on this trainer object only, by a method that calls the watches and the original. The
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
    """One step of the optimizer that the trainer is about to take. Valid only during the call that it is passed to.

    Attributes:
        number: Number of the step in its epoch, counted from 1; a repeated epoch starts at 1 again.
        gradients: Gradients by parameter name, accumulated over the step's batches and reduced over the ranks. They
            are the trainer's own: never change them.
        scale: The loss scale of automatic mixed precision, on their device; 1 without it. Divide gradients by it.
    """

    number: int
    gradients: Mapping[str, Any]
    scale: Any


class GradientWatch(Watch):
    """Watches the gradients of sampled optimizer steps."""

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
        """Stop watching, and restore the trainer's own method if this was the last watch."""
        super().remove()
        self._steps.drop(self)

    def skipped_steps(self) -> int:
        """Return how many steps of this epoch automatic mixed precision has skipped, sampled or not."""
        return int(self._steps.skipped)


class OptimizerSteps:
    """Replaces the trainer's `optimizer_step` while there is a watch."""

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
        # bound methods are equal, not identical; if somebody has wrapped ours, it stays and only calls the original
        if not self._watches and attributes.get("optimizer_step") == self._step:
            del attributes["optimizer_step"]
            attributes.update(self._own_attribute)
            self._own = None

    def release(self) -> None:
        """Drop the trainer, so that whoever keeps a watch does not keep the model alive."""
        self._trainer = self._model = self._own = self._one = None
        self._parameters, self._own_attribute = [], {}

    def begin_epoch(self) -> None:
        """Begin an epoch, or a repeated one."""
        self._number, self.skipped = 0, 0

    def _step(self, *args: Any, **kwargs: Any) -> Any:
        """Do the trainer's own step, and call the watches."""
        own: Callable[..., Any] = self._own  # type: ignore[assignment]  # set while this can be called
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
        """Return the loss scale without waiting for the device, as `get_scale()` would."""
        if self._one is None:
            import torch

            self._one = torch.ones((), device=self._trainer.device)
        return self._one if scaler is None else scaler.scale(self._one)

    def _gradients(self) -> dict[str, Any]:
        if self._model is not self._trainer.model:  # walking all modules takes as long as measuring
            self._model = self._trainer.model
            self._parameters = list(unwrapped(self._model).named_parameters())
        return {name: parameter.grad for name, parameter in self._parameters if parameter.grad is not None}

    @contextlib.contextmanager
    def _before_optimizer(self, due: Sequence[GradientWatch], stepped: list[bool]) -> Iterator[None]:
        """Watch the gradients as the optimizer gets them, unscaled and clipped, and note that it was called.

        The hook is on the optimizer for one step only: after running out of memory, the trainer may build another one.
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
