"""Work that must not hold up training: one thread, a bounded queue, and errors that are logged once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import hide

Task = Callable[[], None]


class Background:
    """Runs tasks one after the other off the training thread.

    A task waiting under the same key is replaced by the newer one, so the queue holds at most one task a key, and
    `limit` keys. The thread starts with the first task and ends after `close`. It is a daemon: a task that hangs
    never keeps the process alive.

    Args:
        name: Shown in log lines and as the thread's name.
        limit: The most tasks that may wait; a further one makes `submit` wait for room, so that nothing is lost.
        share: The most of the time that the tasks may take, in (0, 1]: after a task the thread rests accordingly,
            unless somebody waits. For tasks that take longer the longer a run gets.

    Example:
        >>> worker = Background("demo")
        >>> done = []
        >>> worker.submit("greet", lambda: done.append("hello"))
        >>> worker.close(timeout=5), done
        (True, ['hello'])
    """

    def __init__(self, name: str, limit: int = 64, share: float = 1.0) -> None:
        self._name = name
        self._limit = limit
        self._share = share
        self._hurried = 0
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._change = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()

    def submit(self, key: str, task: Task) -> None:
        """Queue a task; after `close` it is run at once, here."""
        with self._change:
            if not self._closed:
                self._change.wait_for(lambda: key in self._tasks or len(self._tasks) < self._limit)
                self._tasks[key] = task
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name=f"yolo-callbacks {self._name}", daemon=True)
                    self._thread.start()
                self._change.notify_all()
                return
        self._run(key, task)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the queue is empty and nothing runs.

        Returns:
            False if that took longer than `timeout` seconds.
        """
        if self._thread is None:
            return True
        with self._change:
            self._hurried += 1
            self._change.notify_all()
            try:
                return self._change.wait_for(lambda: not self._tasks and not self._busy, timeout)
            finally:
                self._hurried -= 1

    def close(self, timeout: float | None = None) -> bool:
        """Finish what is queued and end the thread.

        Returns:
            False if that took longer than `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        finished = self.wait(timeout)
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return finished

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._tasks) or self._closed)
                if not self._tasks:
                    return
                key, task = self._tasks.popitem(last=False)
                self._busy = True
                self._change.notify_all()
            start = time.monotonic()
            try:
                self._run(key, task)
            finally:
                del task  # it may hold a whole checkpoint
                took = time.monotonic() - start
                with self._change:
                    self._busy = False
                    self._change.notify_all()
                    self._change.wait_for(lambda: self._hurried or self._closed, took * (1 / self._share - 1))

    def _run(self, key: str, task: Task) -> None:
        try:
            task()
        except Exception as error:
            tell_once(self._told, key, error)


def tell_once(told: set[str], what: str, error: Exception) -> None:
    """Log an error that training survives, with its cause; the same one is not repeated."""
    sentence = hide(f"{what} failed and is skipped, training goes on: {type(error).__name__}: {error}")
    if sentence not in told:
        told.add(sentence)
        LOGGER.warning(sentence, exc_info=LOGGER.isEnabledFor(10))
