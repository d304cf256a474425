"""EpochClock: where the time of an epoch goes: waiting for data, training steps, validation, saving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DATA, STEP, VALIDATION, SAVE = "data", "step", "validation", "save"
MEASURE = "measure"  # what callbacks measure, which includes an `ExtraValidation`


class EpochClock:
    """Times the parts of an epoch as the training loop of this process sees them.

    The loop waits for data from the end of a batch to the beginning of the next one, and from the beginning of an epoch
    to its first batch. Nothing here waits for the GPU: see `SystemMonitor`.

    Args:
        trainer: An Ultralytics trainer.

    Attributes:
        batches: Number of batches of the epoch that are done; 0 unless it listens to them.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._listens = False
        self._mark = self._data = self._step = 0.0
        self._others: dict[str, float] = {}
        self._within = 0.0  # seconds of the blocks within the present one
        self.batches = 0
        # bound once, so that a list finds each by identity; the second says whether it comes first in its list
        self._functions: dict[str, tuple[Callable[[Any], None], bool]] = {
            "on_train_epoch_start": (self._wait, False),
            "on_train_batch_start": (self._begin_batch, True),
            "on_train_batch_end": (self._end_batch, False),
        }

    @property
    def seconds(self) -> dict[str, float]:
        """Duration of each part of the epoch that has taken place so far: `data`, `step`, `validation`, `save`."""
        batches = {DATA: self._data, STEP: self._step} if self.batches else {}
        return {**batches, **self._others}

    def listen(self) -> None:
        """Time the batches, from the next epoch on. Two calls of a function per batch."""
        self._listens = True
        self._take_places()

    def begin_epoch(self) -> None:
        """Begin an epoch, or a repeated one."""
        if self._listens:
            self._take_places()
        self._data = self._step = 0.0
        self._others = {}
        self.batches = 0
        self._wait()

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Add the time of a `with` block to a part of the epoch; that of a block within it belongs to the inner one."""
        start, around = time.perf_counter(), self._within
        self._within = 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self._others[part] = self._others.get(part, 0.0) + took - self._within
            self._within = around + took

    def release(self) -> None:
        """Stop listening, and drop the trainer."""
        for event, (function, _) in self._functions.items():
            functions = self._trainer.callbacks[event] if self._listens and self._trainer is not None else []
            if function in functions:
                functions.remove(function)
        self._trainer, self._listens = None, False

    def _take_places(self) -> None:
        """Come before or after all other functions, so that what they take is no waiting; they may have changed."""
        for event, (function, first) in self._functions.items():
            functions = self._trainer.callbacks[event]
            if functions and functions[0 if first else -1] is function:
                continue
            if function in functions:
                functions.remove(function)
            functions.insert(0 if first else len(functions), function)

    def _wait(self, _: Any = None) -> None:
        self._mark = time.perf_counter()

    def _begin_batch(self, _: Any) -> None:
        now = time.perf_counter()
        self._data += now - self._mark
        self._mark = now

    def _end_batch(self, _: Any) -> None:
        now = time.perf_counter()
        self._step += now - self._mark
        self._mark = now
        self.batches += 1
