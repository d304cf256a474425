"""Watches the outputs of layers with PyTorch's forward hooks.

The hooks are on the model only while a sampled batch goes through it: at other times the trainer copies and saves the
model, and its hooks with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yolo_callbacks.trainer.model.layers import unwrapped
from yolo_callbacks.trainer.model.watch import Watch

_BATCH_EVENT = "on_train_batch_start"


class ActivationWatch(Watch):
    """Watches the outputs of layers in sampled training batches."""

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
        """Stop watching, remove everything from model and trainer, and drop them."""
        super().remove()
        self._unhook()
        functions = self._trainer.callbacks[_BATCH_EVENT] if self._trainer is not None else []
        if self._begin_batch in functions:
            functions.remove(self._begin_batch)
        self._trainer, self._layers = None, {}

    def begin_epoch(self) -> None:
        """Begin an epoch, or a repeated one, perhaps after running out of memory inside a layer."""
        self._number = 0
        self._unhook()
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
            self._unhook()
        if self.due(self._number):
            with self.guarded():
                self._hooks += [layer.register_forward_hook(self._hook(name)) for name, layer in self._layers.items()]
                self._hooks.append(unwrapped(self._trainer.model).register_forward_hook(lambda *_: self._unhook()))

    def _hook(self, name: str) -> Callable[..., None]:
        def look(_module: Any, _inputs: Any, output: Any) -> None:
            if self.active:
                with self.guarded():
                    self._look(self._number, name, output)

        return look

    def _unhook(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()
