"""Outbox: sends messages in the background to a server that may be slow or down."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from yolo_callbacks.support.background import Background
from yolo_callbacks.support.log import LOGGER

GRACE = 10.0
"""Seconds that a training waits at its end for undelivered messages, in total."""

HURRY = 3.0
"""The same after Ctrl-C or a preemption."""

_FIRST_PAUSE = 1.0  # seconds; doubled with each failure in a row
_MAX_PAUSE = 300.0
_MAX_RETRY_AFTER = 3600.0  # the most that Retry-After can ask for
_IN_ORDER = 0.5  # share of the final wait; after it, messages that must not be dropped go first
_LAST_PAUSE = 1.0  # between two attempts during the final wait
_LAST_TRIES = 3  # failures in a row during the final wait, after which it ends
_RANDOM = random.Random()  # the global generator belongs to the training: drawing from it would change results
_ANSWERED_TRIES = 10  # of a message that the server answers but rejects: the message may be at fault


class NotDelivered(Exception):
    """A message was not accepted.

    Args:
        why: A short reason for the log, without the URL and the message.
        again: Whether a later attempt may succeed.
        answered: Whether the server answered.
        after: Seconds that the server asked to wait, None if it did not.
    """

    def __init__(self, why: str, *, again: bool = True, answered: bool = False, after: float | None = None) -> None:
        super().__init__(why)
        self.why, self.again, self.answered, self.after = why, again, answered, after


class Attempt(NamedTuple):
    """What a sender may need to know.

    Attributes:
        number: Number of this attempt, counted from 1.
        answers: How often the server answered but rejected the message.
        lost: How many messages before it were dropped.
        seconds: Time left, infinite while the training runs.
    """

    number: int
    answers: int
    lost: int
    seconds: float


Send = Callable[[Any, Attempt], None]
"""Sends one message, or raises `NotDelivered`."""


@dataclass(eq=False)
class _Queued:
    message: Any
    droppable: bool
    key: str | None
    tries: int = 0
    answers: int = 0
    lost_before: int | None = None


class Outbox:
    """Sends messages one by one from its own thread, with retries.

    The queue is bounded, and `put` never waits: when it is full, the oldest droppable message is dropped. A failed
    message is retried after a pause that doubles each time, up to five minutes, so a server that was down for a night
    gets everything it missed. Messages are sent in order, except during the final wait: if time gets short or a
    message fails, those that must not be dropped go first. After three failures in a row, the wait ends.

    Args:
        name: Name in log lines; not secret.
        send: Sends a message.
        limit: Size of the queue, >= 1.
        first_pause: Seconds before the second attempt.
        longest_pause: Limit of the doubled pause in seconds.
    """

    def __init__(
        self,
        name: str,
        send: Send,
        *,
        limit: int = 256,
        first_pause: float = _FIRST_PAUSE,
        longest_pause: float = _MAX_PAUSE,
    ) -> None:
        self._name, self._send, self._limit = name, send, limit
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._worker = Background(name)
        self._change = threading.Condition()
        self._queue: list[_Queued] = []
        self._sending: _Queued | None = None
        self._failures = self._last_failures = 0
        self._deadline: float | None = None
        self._in_order_until = float("inf")
        self._logged: set[str] = set()
        self._recovery_logged = False
        self.accepted = self.delivered = self.lost = 0

    def put(self, message: Any, *, droppable: bool = False, key: str | None = None) -> None:
        """Queue a message, without waiting.

        Args:
            message: Passed to `send`; must not be changed afterwards.
            droppable: Whether it may be dropped when the queue is full.
            key: Replaces a waiting message with the same key, which is out of date.
        """
        with self._change:
            if self._deadline is not None:
                return
            self._withdraw(key)
            self._queue.append(_Queued(message, droppable, key))
            self.accepted += 1
            waiting = [queued for queued in self._queue if queued is not self._sending]
            full = len(waiting) > self._limit
            if full:
                self._queue.remove(next((queued for queued in waiting if queued.droppable), waiting[0]))
                self.lost += 1
        if full:
            self._log_once(f"the queue is full ({self._limit} messages): the oldest epoch messages are dropped")
        self._worker.submit("deliver", self._deliver_all)

    def _withdraw(self, key: str | None) -> None:
        for queued in self._queue:
            if key is not None and queued.key == key and queued is not self._sending:
                self._queue.remove(queued)
                self.accepted -= 1
                return

    # ------------------------------------------------------------------------------------------ the end

    def finish(self, grace: float = GRACE) -> None:
        """Accept no more messages, and drop those not delivered within `grace` seconds, without waiting."""
        with self._change:
            if self._deadline is None:
                self._deadline = time.monotonic() + grace
                self._in_order_until = self._deadline - (1 - _IN_ORDER) * grace
            self._change.notify_all()

    def join(self) -> bool:
        """Wait until the deadline of `finish`, and log how many messages were delivered.

        Returns:
            Whether all of them were.
        """
        self.finish()
        assert self._deadline is not None
        self._worker.close(max(0.0, self._deadline - time.monotonic()))
        with self._change:
            self.lost += len(self._queue)
            self._queue.clear()
            whole = self.delivered == self.accepted
        if self.accepted:
            tell = LOGGER.info if whole else LOGGER.warning
            tell(f"{self._name}: delivered {self.delivered} of {self.accepted} message{'s' * (self.accepted != 1)}")
        return whole

    # ------------------------------------------------------------------------------------------ the thread

    def _deliver_all(self) -> None:
        while (queued := self._next()) is not None:
            try:
                self._send(queued.message, self._attempt(queued))
            except NotDelivered as error:
                self._failed(queued, error)
            except Exception as error:  # a bug in a sender must not end the thread
                self._failed(queued, NotDelivered(type(error).__name__, again=False))
            else:
                self._succeeded(queued)

    def _next(self) -> _Queued | None:
        with self._change:
            queue, self._sending = self._queue, None
            if not queue or self._seconds_left() <= 0:
                return None
            urgent = (queued for queued in queue if not queued.droppable)
            in_order = time.monotonic() < self._in_order_until and not self._last_failures
            self._sending = queue[0] if in_order else next(urgent, queue[0])
            return self._sending

    def _attempt(self, queued: _Queued) -> Attempt:
        with self._change:
            queued.tries += 1
            if queued.lost_before is None:  # a retry sends the same bytes
                queued.lost_before = self.lost
            return Attempt(queued.tries, queued.answers, queued.lost_before, self._seconds_left())

    def _seconds_left(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _succeeded(self, queued: _Queued) -> None:
        with self._change:
            failures, self._failures, self._last_failures = self._failures, 0, 0
            if queued in self._queue:
                self._queue.remove(queued)
                self.delivered += 1
        if failures and not self._recovery_logged:
            self._recovery_logged = True
            LOGGER.info(f"{self._name}: messages are delivered again")

    def _failed(self, queued: _Queued, error: NotDelivered) -> None:
        with self._change:
            self._sending = None
            self._failures += 1
            self._last_failures += self._deadline is not None
            queued.answers += error.answered
            given_up = not error.again or queued.answers >= _ANSWERED_TRIES
            if given_up and queued in self._queue:
                self._queue.remove(queued)
                self.lost += 1
        outcome = "the message is dropped" if given_up else "it will be retried"
        self._log_once(f"{error.why}; {outcome}, training continues")
        if not given_up or error.after:
            self._pause(error)

    def _pause(self, error: NotDelivered) -> None:
        doubled = self._first_pause * 2.0 ** min(self._failures - 1, 30)
        # the runs of a sweep must not retry in step
        pause = min(doubled, self._longest_pause) * _RANDOM.uniform(0.5, 1.0)
        start, asked = time.monotonic(), min(error.after or 0.0, _MAX_RETRY_AFTER)

        def left() -> float:
            own = min(pause, _LAST_PAUSE) if self._deadline is not None else pause
            return max(own, asked) - (time.monotonic() - start)

        with self._change:
            while (seconds := left()) > 0:
                # no use in waiting if the deadline comes first
                if seconds >= self._seconds_left() or self._last_failures >= _LAST_TRIES:
                    self._deadline = time.monotonic()
                    return
                self._change.wait(seconds)

    def _log_once(self, what: str) -> None:
        """Log each kind of problem once: an unreliable server must not fill the log."""
        if what not in self._logged:
            self._logged.add(what)
            LOGGER.warning(f"{self._name}: {what}")
