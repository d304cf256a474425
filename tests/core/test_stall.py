"""When a training stands still, by readings of a clock that the test turns."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks.core.stall import (
    BATCH,
    Limits,
    Place,
    Reading,
    Stalled,
    StallJudge,
    WentOn,
    behind,
    check_stall_after,
    waits_for,
)

TEN = Limits.of("10x", floor=60.0, slow=1800.0)


class Clock:
    """A training whose waits are given, looked at once per tick."""

    def __init__(self, limits=TEN, tick=1.0):
        self.now, self.tick = 1000.0, tick
        self.judge = StallJudge(limits, tick)
        self.reading = Reading("training", self.now, 1, 0)
        self.found = []

    def look(self):
        found = self.judge.look(self.now, self.reading)
        if found is not None:
            self.found.append(found)

    def wait(self, seconds):
        """Let time pass without a sign of life."""
        end = self.now + seconds
        while self.now < end - 1e-6:
            self.now = min(end, self.now + self.tick)
            self.look()

    def batches(self, number, seconds):
        for _ in range(number):
            self.wait(seconds - 1e-3)
            self.now += 1e-3
            batch = self.reading.batch + 1
            self.reading = self.reading._replace(kind=BATCH, last=self.now, batch=batch)

    def enter(self, phase):
        self.reading = Reading(phase, self.now, self.reading.epoch, 0)

    def suspend(self, seconds):
        self.now += seconds
        self.look()


def test_a_batch_that_takes_much_longer_than_usual_is_a_stall_told_once():
    clock = Clock()
    clock.batches(20, 9.0)
    clock.wait(89)
    assert clock.found == []
    clock.wait(1000)
    ((stalled),) = clock.found
    assert stalled.limit == pytest.approx(90)
    assert stalled.usual == pytest.approx(9)
    assert clock.judge.stalled
    clock.batches(1, 1.0)
    clock.look()
    assert clock.found[1] == WentOn(pytest.approx(1090))
    assert not clock.judge.stalled


def test_fast_batches_have_a_floor():
    clock = Clock()
    clock.batches(200, 0.25)
    clock.wait(59)
    assert clock.found == []
    clock.wait(2)
    assert isinstance(clock.found[0], Stalled)


@pytest.mark.parametrize("kind", ["starting", "training", "validating", "saving", "evaluating", "closing"])
def test_anything_but_a_batch_may_take_longer(kind):
    clock = Clock()
    clock.batches(50, 0.5)
    clock.enter(kind)
    clock.wait(1799)
    assert clock.found == []
    clock.wait(2)
    assert clock.found[0].limit == 1800


def test_until_a_few_batches_are_known_the_long_limit_holds():
    clock = Clock()
    clock.batches(3, 5.0)
    clock.wait(1790)
    assert clock.found == []


def test_what_has_passed_before_is_no_alarm_the_next_time():
    clock = Clock()
    clock.batches(20, 1.0)
    clock.batches(1, 50.0)
    clock.wait(99)
    assert clock.found == []
    clock.wait(2)
    assert clock.found[0].limit == pytest.approx(100, abs=1)
    slow = Clock()
    slow.enter("validating")
    slow.wait(1700)
    slow.enter("saving")
    slow.enter("validating")
    slow.wait(3390)
    assert slow.found == []


def test_a_number_is_seconds_between_two_batches():
    clock = Clock(Limits.of(5.0, floor=60.0, slow=20.0), tick=0.5)
    clock.batches(1, 1.0)
    clock.wait(4.9)
    assert clock.found == []
    clock.wait(0.7)
    assert clock.found[0].limit == 5


def test_without_a_limit_nothing_is_a_stall():
    clock = Clock(Limits.of(None, floor=60.0, slow=1800.0), tick=100.0)
    clock.batches(10, 1.0)
    clock.wait(1e7)
    assert clock.found == []


def test_a_suspended_process_does_not_stall():
    clock = Clock()
    clock.batches(20, 1.0)
    clock.wait(30)
    clock.suspend(1000)
    assert clock.found == []
    clock.wait(28)
    assert clock.found == []
    clock.wait(3)
    assert clock.found[0].seconds == pytest.approx(60, abs=2)


def test_a_long_suspension_is_told():
    clock = Clock()
    clock.batches(20, 1.0)
    clock.suspend(7200)
    assert clock.found == [WentOn(pytest.approx(7199, abs=1), suspended=True)]
    clock.batches(1, 1.0)
    clock.suspend(0.001)
    assert len(clock.found) == 1


def test_short_epochs_are_known_by_their_means():
    clock = Clock(Limits.of("10x", floor=5.0, slow=1800.0))
    for _ in range(5):
        clock.judge.add(0.4)
    clock.batches(1, 0.4)
    clock.wait(6.5)
    assert clock.found[0].usual == 0.4


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([BATCH, "validating", "starting"]), st.floats(0.01, 50.0)), max_size=60),
    st.floats(0.05, 5.0),
)
def test_waits_within_the_floor_are_never_stalls(waits, tick):
    clock = Clock(tick=tick)
    for kind, seconds in waits:
        if kind == BATCH:
            clock.batches(1, seconds)
        else:
            clock.wait(seconds)
            clock.enter(kind)
    assert clock.found == []


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1e4), st.floats(0, 1e5), st.sampled_from([BATCH, "saving"]))
def test_the_limit_never_falls_below_what_was_asked_for(usual, longest, kind):
    limit = TEN.limit(kind, usual, longest)
    assert limit >= (60 if kind == BATCH else 1800)
    assert limit >= (10 * usual if kind == BATCH else 2 * longest)
    assert TEN.limit(kind, usual, longest + 1) >= limit


@pytest.mark.parametrize("value", ["10x", "2.5x", 30, 0.5, np.float32(2.0), None])
def test_a_multiple_a_number_or_none(value):
    assert check_stall_after(value) == value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("10", ValueError, r"stall_after='10' must be a multiple of at least 2, such as '10x', or a number"),
        ("1x", ValueError, "at least 2"),
        ("nanx", ValueError, "at least 2"),
        ("fastx", ValueError, "at least 2"),
        (0, ValueError, "> 0"),
        (math.inf, ValueError, "finite"),
        ([], TypeError, r"stall_after=\[\] must be a multiple such as '10x', a number of seconds, or None"),
        (True, TypeError, "stall_after=True"),
    ],
)
def test_wrong_values(value, error, message):
    with pytest.raises(error, match=message):
        check_stall_after(value)


LOOP = Place("/x/ultralytics/engine/trainer.py", 500, "_do_train")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([Place("/home/me/data.py", 3, "__getitem__"), Place("/x/torch/utils/data/dataloader.py", 9, "fetch")], "data"),
        ([Place("/x/torch/autograd/graph.py", 800, "_engine_run_backward")], "ranks"),
        ([Place("/x/torch/distributed/distributed_c10d.py", 1, "broadcast")], "ranks"),
        ([Place("C:\\x\\torch\\utils\\data\\dataloader.py", 1, "_get_data")], "data"),
        ([Place("/home/me/callbacks.py", 3, "sleep")], None),
        ([Place("/home/me/callbacks.py", 3, "sleep"), LOOP, Place("/x/torch/distributed/run.py", 1, "run")], None),
        ([], None),
    ],
)
def test_what_a_stack_waits_for(places, expected):
    assert waits_for(places) == expected


def beat(epoch=2, batch=3, phase="training", waits=None):
    return {"epoch": epoch, "batch": batch, "phase": phase, "waits_for": waits}


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        ([beat(waits="ranks"), beat(waits="data")], [1]),
        ([beat(waits="ranks"), beat(), beat(waits="ranks")], [1]),
        ([beat(batch=4), beat(batch=3, waits="ranks")], [1]),
        ([beat(phase="validating"), beat(phase="training")], [1]),
        ([beat(phase="validating"), beat(phase="saving", waits="ranks")], [0]),
        ([beat(epoch=3), beat(epoch=2)], [1]),
        ([beat(waits="ranks"), beat(waits="ranks")], []),
        ([beat(), beat()], []),
    ],
)
def test_which_rank_is_behind(beats, expected):
    assert behind(dict(enumerate(beats))) == expected


def test_a_place_in_words():
    assert str(Place("/home/me/data/base.py", 7, "__getitem__")) == "__getitem__ (data/base.py:7)"
    assert str(Place("<string>", 1, "<module>")) == "<module> (<string>:1)"
