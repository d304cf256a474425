"""Sampler: reads numbers at a low rate in a thread of its own, and keeps only their means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from yolo_callbacks.support.background import tell_once


class Sampler:
    """Calls a function every few seconds while it is switched on, in a thread that ends with `close`.

    The thread is a daemon, so a function that hangs keeps neither the process nor anybody else waiting. An error is
    logged once and ends the sampling.

    Args:
        name: The thread's name.
        sample: Returns numbers by name.
        seconds: Seconds between two calls, > 0.

    Example:
        >>> sampler = Sampler("demo", lambda: {"load": 0.5}, seconds=0.01)
        >>> sampler.switch(on=True)
        >>> import time; time.sleep(0.2)
        >>> sampler.take()
        {'load': 0.5}
        >>> sampler.close()
    """

    def __init__(self, name: str, sample: Callable[[], Mapping[str, float]], seconds: float) -> None:
        self._name, self._sample, self._seconds = name, sample, seconds
        self._on = False
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[float, int]] = {}
        self._thread = threading.Thread(target=self._work, name=f"yolo-callbacks {name}", daemon=True)
        self._thread.start()

    def switch(self, *, on: bool) -> None:
        """Switch the sampling on or off. Switching it on drops what was sampled before."""
        with self._lock:
            self._on = on
            if on:
                self._sums = {}

    def take(self) -> dict[str, float]:
        """Return the mean of each number since sampling was switched on, and forget them; empty without a sample."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return {name: total / count for name, (total, count) in sums.items()}

    def close(self) -> None:
        """End the thread, without waiting for a sample that is being taken."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(self._seconds):
            if not self._on:
                continue
            try:
                numbers = self._sample()
            except Exception as error:
                tell_once(set(), f"sampling {self._name}", error)
                return
            with self._lock:
                if self._on:  # a sample that began before it was switched off may end late
                    for name, value in numbers.items():
                        total, count = self._sums.get(name, (0.0, 0))
                        self._sums[name] = total + value, count + 1
