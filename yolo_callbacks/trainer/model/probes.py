"""Probes: what no event shows, gradients before they are clipped and what layers put out. Used by `run.py` alone.

Ultralytics sends no event between backward and the step of the optimizer: in on_train_batch_end all gradients are gone.
So the probe stands in for the trainer's `optimizer_step`, on the trainer object itself, and calls it. What layers put
out is seen by PyTorch's forward hooks, which are on the model only while a sampled batch goes through it: the trainer
copies and saves the model at other times, and its hooks with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolo_callbacks.support.background import tell_once
from yolo_callbacks.trainer.model.layers import unwrapped

_BATCH_EVENT = "on_train_batch_start"


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


class Watch:
    """Something that looks at the training until it is removed; what it raises is told once and removes it.

    Attributes:
        active: Whether it still looks.
    """

    def __init__(self, who: str, every: int, begin: Callable[[], None] | None) -> None:
        self.active = True
        self._who = who
        self._every = every
        self._begin = begin

    def begin_epoch(self) -> None:
        """An epoch starts, or starts again."""
        if self.active and self._begin is not None:
            with self.guarded():
                self._begin()

    def remove(self) -> None:
        """Look no more. May be called again."""
        self.active = False

    def due(self, number: int) -> bool:
        """Return whether the step or batch of this number in its epoch is a sampled one: the first always is."""
        return self.active and (number - 1) % self._every == 0

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Let no error out: it is told, and nothing is looked at from then on."""
        try:
            yield
        except Exception as error:
            self.remove()
            tell_once(set(), self._who, error)


class GradientWatch(Watch):
    """Looks at the gradients of sampled steps of the optimizer."""

    def __init__(
        self,
        steps: _OptimizerSteps,
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


class _OptimizerSteps:
    """Stands in for the trainer's `optimizer_step` as long as somebody looks."""

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
        """Let somebody look."""
        if self._own is None:
            self._own, attributes = self._trainer.optimizer_step, vars(self._trainer)
            self._own_attribute = {name: attributes[name] for name in ("optimizer_step",) if name in attributes}
            self._trainer.optimizer_step = self._step
        self._watches += (watch,)

    def drop(self, watch: GradientWatch) -> None:
        """Let somebody look no more."""
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


class ActivationWatch(Watch):
    """Looks at what layers put out in sampled batches of the training."""

    def __init__(
        self,
        trainer: Any,
        who: str,
        every: int,
        layers: Mapping[str, Any],
        look: Callable[[int, str, Any], None],
        begin: Callable[[], None] | None,
    ) -> None:
        super().__init__(who, every, begin)
        self._trainer, self._layers, self._look = trainer, dict(layers), look
        self._hooks: list[Any] = []
        self._number = 0
        self._listen()

    def remove(self) -> None:
        """Look no more, leave nothing on model and trainer, and let go of them."""
        super().remove()
        self._take_off()
        functions = self._trainer.callbacks[_BATCH_EVENT] if self._trainer is not None else []
        if self._begin_batch in functions:
            functions.remove(self._begin_batch)
        self._trainer, self._layers = None, {}

    def begin_epoch(self) -> None:
        """An epoch starts, or starts again, maybe as the one before ran out of memory in a layer."""
        self._number = 0
        self._take_off()
        if self.active:
            self._listen()  # somebody may have cleared the list
        super().begin_epoch()

    def _listen(self) -> None:
        functions = self._trainer.callbacks[_BATCH_EVENT]
        if self._begin_batch not in functions:
            functions.append(self._begin_batch)

    def _begin_batch(self, _: Any) -> None:
        self._number += 1
        if self._hooks:
            self._take_off()
        if self.due(self._number):
            with self.guarded():
                self._hooks += [layer.register_forward_hook(self._hook(name)) for name, layer in self._layers.items()]
                self._hooks.append(unwrapped(self._trainer.model).register_forward_hook(lambda *_: self._take_off()))

    def _hook(self, name: str) -> Callable[..., None]:
        def look(_module: Any, _inputs: Any, output: Any) -> None:
            if self.active:
                with self.guarded():
                    self._look(self._number, name, output)

        return look

    def _take_off(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()


class Probes:
    """All that looks at one training by other means than events.

    Args:
        trainer: The trainer, its model built.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._steps = _OptimizerSteps(trainer)
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
        """An epoch starts, or starts again."""
        self._steps.begin_epoch()
        for watch in self._watches:
            watch.begin_epoch()

    def remove(self) -> None:
        """Remove all of them, and let go of the trainer."""
        for watch in self._watches:
            watch.remove()
        self._watches.clear()
        self._steps.release()
        self._trainer = None
