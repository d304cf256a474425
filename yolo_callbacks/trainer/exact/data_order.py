"""Which pictures a data loader gives next, and in what state its workers make batches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yolo_callbacks.trainer.exact.worker_state import TakesUpState
from yolo_callbacks.trainer.patches.data_loader import LoaderPatch


class DataOrder:
    """Follows one data loader.

    Args:
        loader: An `InfiniteDataLoader`.
        ships: Whether the state of its workers matters: that of a training loader's does, as they augment pictures.
        before_workers: Called before workers are started.
        closes_mosaic: Returns whether the trainer closes mosaic in this very epoch.
    """

    def __init__(
        self,
        loader: Any,
        *,
        ships: bool,
        before_workers: Callable[[], Any] = lambda: None,
        closes_mosaic: Callable[[], bool] = lambda: False,
    ) -> None:
        self.loader = loader
        self._closes_mosaic = closes_mosaic
        self._ships = ships and loader.num_workers > 0
        self._patch = LoaderPatch(loader, ships=ships, before_workers=before_workers)
        self._reset_before = False

    def begin_pass(self) -> None:
        """An epoch starts: count its batches."""
        self._patch.batches_in_pass = 0

    @property
    def batches_in_pass(self) -> int:
        """Batches taken since the epoch has started."""
        return self._patch.batches_in_pass

    def state(self) -> dict[str, Any] | None:
        """Return where the loader stands between two passes; None if that cannot be told.

        It cannot if a pass was left before its end, or a worker has not sent its state.
        """
        patch = self._patch
        state: dict[str, Any] = {"begun": patch.batches > 0, "reset": self._reset_before or patch.resets > 0}
        if not patch.batches:
            return state
        passes, rest = divmod(patch.batches, len(self.loader))
        shipped = list(patch.shipped) if self._ships else []
        if rest or (self._ships and len(shipped) != self.loader.num_workers):
            return None
        previous, *following = patch.sampler.starts_from(passes - 1)
        return {**state, "previous": previous, "next": following, "now": patch.sampler.state(), "workers": shipped}

    def restore(self, state: Mapping[str, Any], then: Callable[[], None] = lambda: None) -> None:
        """Let the next iterator go on from where another loader stood.

        Args:
            state: What `state` of the other one has returned.
            then: Called when the iterator is made, before its first batch.
        """
        patch, resets = self._patch, self._patch.resets
        self._reset_before = bool(state["reset"])

        def make(own: Callable[[], Any]) -> Any:
            iterator = self._first(state, own) if anew() else self._continued(state, own)
            then()
            return iterator

        def anew() -> bool:
            """Return whether the trainer begins anew here in a run that is left alone, too: it closes mosaic.

            It may have been closed before, and in an extension be closed once more.
            """
            return not state["begun"] or (patch.resets > resets and (not state["reset"] or self._closes_mosaic()))

        patch.next_iterator = make

    def _first(self, state: Mapping[str, Any], own: Callable[[], Any]) -> Any:
        self._patch.sampler.set_generator(state.get("now", {}))
        return own()

    def _continued(self, state: Mapping[str, Any], own: Callable[[], Any]) -> Any:
        """Make an iterator that is past the passes that are done."""
        import torch

        loader, sampler = self.loader, self._patch.sampler
        if state["next"]:  # workers had begun them before the epoch's end
            sampler.script.extend(state["next"])
        elif "generator" in state["previous"]:
            sampler.script.append(state["previous"])
            self._patch.replay_pass()
        sampler.forget()
        generator, init = loader.generator, loader.worker_init_fn
        loader.generator = torch.Generator()  # a new iterator draws a seed from it: the run that was left alone did not
        if state["workers"]:
            loader.worker_init_fn = TakesUpState(init, state["workers"])
        try:
            return own()
        finally:
            loader.generator, loader.worker_init_fn = generator, init

    def release(self) -> None:
        """Leave the loader as it was."""
        self._patch.undo()
