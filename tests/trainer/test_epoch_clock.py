"""Where the time of an epoch goes: driven by a clock that the test moves."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from yolo_callbacks.trainer import epoch_clock
from yolo_callbacks.trainer.epoch_clock import EpochClock
from yolo_callbacks.trainer.patches.callback_lists import protect_callback_lists


class Loop:
    """A training loop in which everything takes a known number of seconds."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(epoch_clock, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.callbacks = defaultdict(list)
        self.clock = EpochClock(self)

    def spend(self, seconds):
        self.now += seconds

    def send(self, event):
        for function in self.callbacks[event]:
            function(self)

    def begin_epoch(self):
        self.clock.begin_epoch()  # by the session, in this event
        self.send("on_train_epoch_start")

    def batch(self, load, step):
        self.spend(load)
        self.send("on_train_batch_start")
        self.spend(step)
        self.send("on_train_batch_end")


@pytest.fixture
def loop(monkeypatch):
    loop = Loop(monkeypatch)
    loop.clock.listen()
    return loop


def test_waiting_is_what_lies_between_the_batches_and_before_the_first(loop):
    loop.begin_epoch()
    loop.batch(8, 1)
    loop.batch(2, 3)
    assert loop.clock.seconds == {"data": 10, "step": 4}
    assert loop.clock.batches == 2
    loop.spend(100)  # the validation
    assert loop.clock.seconds == {"data": 10, "step": 4}


def test_what_other_callbacks_take_is_no_waiting(loop):
    """Whether they were there before or came later, in whatever order they stand."""

    def slow(_):
        loop.spend(5)

    for event in ("on_train_epoch_start", "on_train_batch_start", "on_train_batch_end"):
        loop.callbacks[event].insert(0, slow)
        loop.callbacks[event].append(slow)
    protect_callback_lists(loop, {})
    loop.begin_epoch()
    loop.batch(2, 1)
    loop.batch(2, 1)
    assert loop.clock.seconds == {"data": 4, "step": 2 * (10 + 1 + 10)}


def test_an_epoch_that_is_repeated_counts_from_its_second_beginning(loop):
    """After NaN, or after running out of memory in a batch that then has no end."""
    loop.begin_epoch()
    loop.batch(50, 50)
    with loop.clock.during("validation"):
        loop.spend(50)
    loop.send("on_train_batch_start")
    loop.begin_epoch()
    loop.batch(1, 2)
    assert loop.clock.seconds == {"data": 1, "step": 2}
    assert loop.clock.batches == 1


def test_lists_that_somebody_clears_are_listened_to_again(loop):
    loop.callbacks.clear()
    loop.begin_epoch()
    loop.batch(1, 2)
    assert loop.clock.seconds == {"data": 1, "step": 2}


def test_parts_that_are_not_there_have_no_duration(loop):
    loop.begin_epoch()
    assert loop.clock.seconds == {}
    with loop.clock.during("save"):
        loop.spend(2)
    with loop.clock.during("save"):
        loop.spend(1)
    assert loop.clock.seconds == {"save": 3}


def test_a_part_within_a_part_is_counted_once(loop):
    loop.begin_epoch()
    for _ in range(2):
        with loop.clock.during("save"):
            loop.spend(1)
            with loop.clock.during("measure"):
                loop.spend(5)
            loop.spend(2)
    assert loop.clock.seconds == {"save": 6, "measure": 10}


def test_a_part_that_fails_has_taken_its_time(loop):
    with pytest.raises(OSError), loop.clock.during("save"):
        loop.spend(2)
        raise OSError
    assert loop.clock.seconds == {"save": 2}


def test_nobody_is_called_for_a_batch_unless_somebody_wants_to_know(monkeypatch):
    loop = Loop(monkeypatch)
    loop.begin_epoch()
    loop.batch(1, 2)
    assert not any(loop.callbacks.values())
    assert loop.clock.seconds == {}


def test_nothing_is_left_behind(loop):
    kept = loop.callbacks["on_train_batch_end"]
    kept.insert(0, print)
    loop.clock.release()
    assert {event: functions for event, functions in loop.callbacks.items() if functions} == {
        "on_train_batch_end": [print]
    }
    loop.clock.release()
