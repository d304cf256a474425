"""Pulse: how far a training is, noted by the training thread and read by the watch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from yolo_callbacks.core.eta import Eta
from yolo_callbacks.core.stall import BATCH, Reading


class Pulse:
    """How far the training is. The training thread writes, the watch reads.

    Args:
        clock: Returns seconds.

    Attributes:
        thread: The thread that trains, which has created it; in a program with windows it is not the main thread.
        phase: `starting`, `training`, `validating`, `saving`, `evaluating` (the final evaluation), `closing` or
            `ended`.
        last: Time of the last sign of life.
        epoch: Number of the epoch, counted from 1; 0 before the first.
        epochs: Number of planned epochs.
        batch: Number of batches that have ended in the epoch.
        batches: Number of batches per epoch.
        eta: The time that was left at `eta_from`; None if unknown.
        finished: Mean batch times of finished epochs that nobody has read yet.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.thread = threading.get_ident()
        self.phase, self.last = "starting", clock()
        self.epoch = self.epochs = self.batch = self.batches = 0
        self.eta: Eta | None = None
        self.eta_from = self._began = self.last
        self.finished: deque[float] = deque(maxlen=8)

    def beat(self) -> None:
        """Note the end of a batch. Called for each one."""
        self.batch += 1
        self.last = self._clock()

    def touch(self) -> None:
        """Note any other sign of life."""
        self.last = self._clock()

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self.phase, self.last = phase, self._clock()

    def begin_epoch(self, epoch: int, epochs: int, batches: int) -> None:
        """Begin the batches of an epoch."""
        self.epoch, self.epochs, self.batch, self.batches = epoch, epochs, 0, batches
        self.enter("training")
        self._began = self.last

    def end_batches(self) -> None:
        """End the batches of an epoch; its validation is next."""
        if self.batch:
            self.finished.append((self._clock() - self._began) / self.batch)
        self.enter("validating")

    def set_eta(self, eta: Eta | None) -> None:
        """Set the time that is left from now on."""
        self.eta, self.eta_from = eta, self._clock()

    @property
    def reading(self) -> Reading:
        """What a `StallJudge` looks at. The first batch of an epoch waits for new workers, so it is no usual one."""
        phase, batch = self.phase, self.batch
        return Reading(BATCH if phase == "training" and batch else phase, self.last, self.epoch, batch)

    @property
    def position(self) -> str:
        """Where it is, in words."""
        epoch = f"epoch {self.epoch} of {self.epochs}, " if self.epoch else ""
        return epoch + (f"batch {self.batch + 1} of {self.batches}" if self.phase == "training" else self.phase)
