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
    """Runs tasks one at a time, off the training thread.

    A newer task replaces one that waits under the same key, so the queue holds at most one task per key and `limit`
    keys. The thread starts with the first task and ends after `close`. It is a daemon, so a task that hangs never keeps
    the process alive.

    Args:
        name: The thread's name.
        limit: How many tasks may wait; when the queue is full, `submit` waits, so that nothing is lost.
        share: The share of the time that the tasks may take, in (0, 1]: after a task the thread rests accordingly,
            unless somebody waits for it. For tasks that take longer as a run gets longer.

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
        self._waiters = 0
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._change = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._logged: set[str] = set()

    def submit(self, key: str, task: Task) -> None:
        """Queue a task; after `close`, run it immediately in this thread."""
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
        """Wait until the queue is empty and no task runs.

        Returns:
            False if that took longer than `timeout` seconds.
        """
        if self._thread is None:
            return True
        with self._change:
            self._waiters += 1
            self._change.notify_all()
            try:
                return self._change.wait_for(lambda: not self._tasks and not self._busy, timeout)
            finally:
                self._waiters -= 1

    def close(self, timeout: float | None = None) -> bool:
        """Finish the queued tasks and end the thread.

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
                    self._change.wait_for(lambda: self._waiters or self._closed, took * (1 / self._share - 1))

    def _run(self, key: str, task: Task) -> None:
        try:
            task()
        except Exception as error:
            tell_once(self._logged, key, error)


def tell_once(logged: set[str], what: str, error: Exception) -> None:
    """Log an error that training survives; do not repeat the same message."""
    message = hide(f"{what} failed; training continues: {type(error).__name__}: {error}")
    if message not in logged:
        logged.add(message)
        LOGGER.warning(message, exc_info=LOGGER.isEnabledFor(10))
