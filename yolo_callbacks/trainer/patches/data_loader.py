"""Lets a data loader tell where it stands, and go on from where another one stood.

Changed: the sampler in the batch sampler of Ultralytics' `InfiniteDataLoader`, and its `_get_iterator`, `reset` and,
with workers, `collate_fn`.
Why: a permutation is drawn when it begins, with workers before the epoch ends, and no loader can be asked for it. Each
worker has generators of its own, which only it can read: it sends them with its last batch of each epoch.
Undone: by `LoaderPatch.undo`.
Needed in: every version that is supported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from yolo_callbacks.trainer.exact.worker_state import SHIPPED, ShipsState

_PATCHED = ("_get_iterator", "reset")


class RecordedSampler:
    """A sampler that notes the state in which each pass over the data begins, and can be told in which to begin.

    Args:
        sampler: The sampler.

    Attributes:
        sampler: The sampler itself.
        script: States for the passes to come, as long as there are any.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.script: deque[Mapping[str, Any]] = deque()
        self._starts: deque[dict[str, Any]] = deque()
        self._first = 0  # the number of the oldest one

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        epoch = getattr(self.sampler, "epoch", None)
        if self.script:
            self._set(self.script.popleft())
        self._starts.append(self.state())
        indices = iter(self.sampler)
        if epoch is not None:  # a DistributedSampler has read it by now; the trainer has set it for the passes to come
            self.sampler.epoch = epoch
        yield from indices

    def starts_from(self, number: int) -> list[dict[str, Any]]:
        """Return the states in which the passes from this one on have begun, and forget those before it."""
        while self._first < number:
            self._starts.popleft()
            self._first += 1
        return list(self._starts)

    def forget(self) -> None:
        """Count passes from 0 again."""
        self._starts.clear()
        self._first = 0

    def state(self) -> dict[str, Any]:
        """Return what a pass would begin with now."""
        state: dict[str, Any] = {}
        if (generator := getattr(self.sampler, "generator", None)) is not None:
            state["generator"] = generator.get_state()
        if (epoch := getattr(self.sampler, "epoch", None)) is not None:
            state["epoch"] = int(epoch)
        return state

    def _set(self, state: Mapping[str, Any]) -> None:
        self.set_generator(state)
        if "epoch" in state:
            self.sampler.epoch = state["epoch"]

    def set_generator(self, state: Mapping[str, Any]) -> None:
        """Set the generator that permutations are drawn from, if there is one."""
        if "generator" in state:
            self.sampler.generator.set_state(state["generator"])


class CountedIterator:
    """Passes each batch of an iterator through a function; otherwise the iterator itself."""

    def __init__(self, iterator: Any, take: Callable[[Any], Any]) -> None:
        self._iterator = iterator
        self._take = take

    def __iter__(self) -> CountedIterator:
        return self

    def __next__(self) -> Any:
        return self._take(next(self._iterator))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class LaterIterator:
    """Stands for an iterator that is made when the first batch is asked for, as newer loaders do."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> LaterIterator:
        return self

    def __next__(self) -> Any:
        self._loader.iterator = self._loader._get_iterator()
        return next(self._loader.iterator)


class LoaderPatch:
    """Counts the batches of one loader, collects what its workers send, and says how its next iterator begins.

    Args:
        loader: An `InfiniteDataLoader`.
        ships: Whether its workers send their state with their last batches of each pass.
        before_workers: Called before workers are started: a process that forks while a thread of it computes or writes
            may leave a lock in the child that nobody opens.

    Attributes:
        sampler: Its sampler, recorded.
        batches: Batches taken from the present iterator.
        batches_in_pass: Batches taken since somebody has set this to 0.
        shipped: What the workers have sent with the last batches, oldest first.
        resets: How often the trainer has made it begin anew.
        next_iterator: Makes the next iterator in place of the loader; called with the loader's own way to make one.
    """

    def __init__(self, loader: Any, *, ships: bool, before_workers: Callable[[], Any] = lambda: None) -> None:
        self.loader = loader
        self._before_workers = before_workers
        self._batch_sampler = loader.batch_sampler.sampler
        self.sampler = RecordedSampler(self._batch_sampler.sampler)
        self.batches = self.batches_in_pass = self.resets = 0
        self.shipped: deque[Any] = deque(maxlen=max(loader.num_workers, 1))
        self.next_iterator: Callable[[Callable[[], Any]], Any] | None = None
        self._own = {name: vars(loader).get(name) for name in _PATCHED}
        self._make, self._reset = loader._get_iterator, loader.reset
        self._collate = loader.collate_fn
        self._batch_sampler.sampler = self.sampler
        loader._get_iterator, loader.reset = self._begin, self._begin_anew
        if ships and loader.num_workers:
            loader.collate_fn = ShipsState(self._collate, len(loader))
        if loader.iterator is not None:
            self._make_later()

    def _make_later(self) -> None:
        """Make anew an iterator that older versions have made with the loader: its workers would send nothing.

        What it has drawn from the generator, which is the loader's alone, is drawn once more.
        """
        self.loader.close()
        if (generator := self.loader.generator) is not None:
            generator.manual_seed(generator.initial_seed())
        self.loader.iterator = LaterIterator(self.loader)

    def replay_pass(self) -> None:
        """Draw a whole pass and drop it, so that the generator stands where the next one begins."""
        for _ in self._batch_sampler:
            pass

    def undo(self) -> None:
        """Leave the loader as it was."""
        self._batch_sampler.sampler = self.sampler.sampler
        for name, own in self._own.items():
            vars(self.loader).pop(name, None)
            if own is not None:
                setattr(self.loader, name, own)
        self.loader.collate_fn = self._collate
        if isinstance(self.loader.iterator, CountedIterator):
            self.loader.iterator = self.loader.iterator._iterator
        self.next_iterator = None

    def _begin(self) -> Any:
        self.batches = 0
        self.shipped.clear()
        self.sampler.forget()
        if self.loader.num_workers:
            self._before_workers()
        make, self.next_iterator = self.next_iterator, None
        return CountedIterator(self._make() if make is None else make(self._make), self._take)

    def _begin_anew(self) -> None:
        self.resets += 1
        self._reset()

    def _take(self, batch: Any) -> Any:
        self.batches += 1
        self.batches_in_pass += 1
        if isinstance(batch, dict) and SHIPPED in batch:
            self.shipped.append(batch.pop(SHIPPED))
        return batch
