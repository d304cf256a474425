"""Outbox: messages to a server that may be slow, down or gone, sent in the background."""

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
"""Seconds that the end of a training waits for undelivered messages, in all."""

HURRY = 3.0
"""The same after Ctrl-C or a preemption."""

_FIRST_PAUSE = 1.0  # seconds; doubled with each failure in a row
_LONGEST_PAUSE = 300.0
_LONGEST_ASKED = 3600.0  # the most that a server can ask for
_IN_ORDER = 0.5  # of the time that the end waits; then what may not be dropped goes first
_LAST_PAUSE = 1.0  # between two attempts while the end of the training waits
_LAST_TRIES = 3  # in a row that fail then: the server is gone
_RANDOM = random.Random()  # the global one is the training's: no number of it may be drawn here
_ANSWERED_TRIES = 10  # of a message that a server answers but rejects: the message may be at fault


class NotDelivered(Exception):
    """A message was not accepted.

    Args:
        why: A few words for the log. No URL and nothing of the message in it.
        again: Whether a later attempt may succeed.
        answered: Whether there was an answer at all.
        after: Seconds that the server asks to wait, None if it did not say.
    """

    def __init__(self, why: str, *, again: bool = True, answered: bool = False, after: float | None = None) -> None:
        super().__init__(why)
        self.why, self.again, self.answered, self.after = why, again, answered, after


class Attempt(NamedTuple):
    """What the sender may want to know.

    Attributes:
        number: How often this message was tried, counted from 1.
        answers: How often the server answered, but did not accept it.
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
class _Letter:
    message: Any
    droppable: bool
    key: str | None
    tries: int = 0
    answers: int = 0
    lost_before: int | None = None


class Outbox:
    """Sends messages one after the other from a thread of its own, and again where that helps.

    The queue is bounded and `put` never waits: when it is full the oldest message that may be dropped is. After a
    failure the same message is sent again after a pause that doubles each time, up to five minutes, so a server that
    was down for a night catches up by itself. Messages go out in order. Only while the end of the training waits, and
    time gets short or a message fails, those that may not be dropped go first; after three failures in a row the
    wait ends.

    Args:
        name: Shown in log lines; nothing secret.
        send: Sends a message.
        limit: The most messages that may wait, >= 1.
        first_pause: Seconds before the second attempt.
        longest_pause: Seconds that the doubled pause stops at.
    """

    def __init__(
        self,
        name: str,
        send: Send,
        *,
        limit: int = 256,
        first_pause: float = _FIRST_PAUSE,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> None:
        self._name, self._send, self._limit = name, send, limit
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._worker = Background(name)
        self._change = threading.Condition()
        self._letters: list[_Letter] = []
        self._sending: _Letter | None = None
        self._failures = self._last_failures = 0
        self._deadline: float | None = None
        self._in_order_until = float("inf")
        self._told: set[str] = set()
        self._told_of_recovery = False
        self.accepted = self.delivered = self.lost = 0

    def put(self, message: Any, *, droppable: bool = False, key: str | None = None) -> None:
        """Queue a message and return at once.

        Args:
            message: Given to `send` as it is; not to be changed afterwards.
            droppable: Whether it may be dropped when the queue is full.
            key: It takes the place of a waiting message of the same key, which then is no longer news.
        """
        with self._change:
            if self._deadline is not None:
                return
            self._withdraw(key)
            self._letters.append(_Letter(message, droppable, key))
            self.accepted += 1
            waiting = [letter for letter in self._letters if letter is not self._sending]
            full = len(waiting) > self._limit
            if full:
                self._letters.remove(next((letter for letter in waiting if letter.droppable), waiting[0]))
                self.lost += 1
        if full:
            self._tell(f"its queue of {self._limit} messages is full, the oldest of epochs are dropped")
        self._worker.submit("deliver", self._deliver_all)

    def _withdraw(self, key: str | None) -> None:
        for letter in self._letters:
            if key is not None and letter.key == key and letter is not self._sending:
                self._letters.remove(letter)
                self.accepted -= 1
                return

    # ------------------------------------------------------------------------------------------ the end

    def finish(self, grace: float = GRACE) -> None:
        """Accept no more messages, and drop those not delivered within `grace` seconds. Returns at once."""
        with self._change:
            if self._deadline is None:
                self._deadline = time.monotonic() + grace
                self._in_order_until = self._deadline - (1 - _IN_ORDER) * grace
            self._change.notify_all()

    def join(self) -> bool:
        """Wait until the deadline of `finish`, and log how many messages were delivered.

        Returns:
            Whether all were.
        """
        self.finish()
        assert self._deadline is not None
        self._worker.close(max(0.0, self._deadline - time.monotonic()))
        with self._change:
            self.lost += len(self._letters)
            self._letters.clear()
            whole = self.delivered == self.accepted
        if self.accepted:
            tell = LOGGER.info if whole else LOGGER.warning
            tell(f"{self._name}: {self.delivered} of {self.accepted} messages were delivered")
        return whole

    # ------------------------------------------------------------------------------------------ the thread

    def _deliver_all(self) -> None:
        while (letter := self._next()) is not None:
            try:
                self._send(letter.message, self._attempt(letter))
            except NotDelivered as error:
                self._failed(letter, error)
            except Exception as error:  # a bug in a sender must not end the thread
                self._failed(letter, NotDelivered(type(error).__name__, again=False))
            else:
                self._succeeded(letter)

    def _next(self) -> _Letter | None:
        with self._change:
            letters, self._sending = self._letters, None
            if not letters or self._seconds_left() <= 0:
                return None
            urgent = (letter for letter in letters if not letter.droppable)
            in_order = time.monotonic() < self._in_order_until and not self._last_failures
            self._sending = letters[0] if in_order else next(urgent, letters[0])
            return self._sending

    def _attempt(self, letter: _Letter) -> Attempt:
        with self._change:
            letter.tries += 1
            if letter.lost_before is None:  # a repeated message is the same to the last byte
                letter.lost_before = self.lost
            return Attempt(letter.tries, letter.answers, letter.lost_before, self._seconds_left())

    def _seconds_left(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _succeeded(self, letter: _Letter) -> None:
        with self._change:
            failures, self._failures, self._last_failures = self._failures, 0, 0
            if letter in self._letters:
                self._letters.remove(letter)
                self.delivered += 1
        if failures and not self._told_of_recovery:
            self._told_of_recovery = True
            LOGGER.info(f"{self._name}: messages get through again")

    def _failed(self, letter: _Letter, error: NotDelivered) -> None:
        with self._change:
            self._sending = None
            self._failures += 1
            self._last_failures += self._deadline is not None
            letter.answers += error.answered
            given_up = not error.again or letter.answers >= _ANSWERED_TRIES
            if given_up and letter in self._letters:
                self._letters.remove(letter)
                self.lost += 1
        outcome = "the message is dropped" if given_up else "it will be sent again"
        self._tell(f"{error.why}; {outcome}, training goes on")
        if not given_up or error.after:
            self._pause(error)

    def _pause(self, error: NotDelivered) -> None:
        doubled = self._first_pause * 2.0 ** min(self._failures - 1, 30)
        # runs of one sweep must not come together
        pause = min(doubled, self._longest_pause) * _RANDOM.uniform(0.5, 1.0)
        start, asked = time.monotonic(), min(error.after or 0.0, _LONGEST_ASKED)

        def left() -> float:
            own = min(pause, _LAST_PAUSE) if self._deadline is not None else pause
            return max(own, asked) - (time.monotonic() - start)

        with self._change:
            while (seconds := left()) > 0:
                # where the end would come first it need not be waited for
                if seconds >= self._seconds_left() or self._last_failures >= _LAST_TRIES:
                    self._deadline = time.monotonic()
                    return
                self._change.wait(seconds)

    def _tell(self, what: str) -> None:
        """Log what goes wrong, once: a server that comes and goes must not fill the log."""
        if what not in self._told:
            self._told.add(what)
            LOGGER.warning(f"{self._name}: {what}")
