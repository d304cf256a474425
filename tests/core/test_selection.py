"""Which epochs are worth keeping."""

import math

import pytest

from tests.helpers import NAN, SKIPPED, record
from yolo_callbacks import History, Plan
from yolo_callbacks.core.monitor import Monitor
from yolo_callbacks.core.naming import FileTemplate
from yolo_callbacks.core.selection import ALL, ClockFold, TopFold, never_due


def top_of(values, size, mode="max"):
    fold = TopFold(Monitor.of("fitness", mode), size, FileTemplate("{epoch}"))
    history = History(Plan(), [record(epoch, value) for epoch, value in enumerate(values, 1)])
    return history.fold(fold)


@pytest.mark.parametrize(
    ("values", "size", "mode", "kept"),
    [
        ([], 2, "max", []),
        ([0.1, 0.3, 0.2], 2, "max", [2, 3]),
        ([0.1, 0.3, 0.2], 2, "min", [1, 3]),
        ([0.3, 0.3, 0.3], 2, "max", [1, 2]),  # the earlier of equal ones
        ([NAN, SKIPPED, 0.1, math.inf], 3, "max", [3]),
        ([0.1, 0.2], 0, "max", []),
    ],
)
def test_the_best_come_first(values, size, mode, kept):
    assert [epoch for _, epoch, _ in top_of(values, size, mode).kept] == kept


def test_what_was_pushed_out_is_dropped_with_the_one_that_came():
    top = top_of([0.1, 0.3, 0.2], 2)
    assert (top.newest[1], top.changed_in) == (3, 3)
    assert [file.rpartition("/")[2] for file in top.dropped] == ["1.pt"]
    unchanged = top_of([0.1, 0.3, 0.2, 0.05], 2)
    assert unchanged == top


def test_without_a_limit_each_one_is_kept_and_only_the_best_remembered():
    top = top_of([0.1, 0.3, 0.2], ALL)
    assert [epoch for _, epoch, _ in top.kept] == [2]
    assert (top.newest[1], top.dropped) == (3, ())


def test_an_interval_of_training():
    history, due = History(), []
    for epoch, elapsed in enumerate([30, 61, 90, 121, 122, 400], 1):
        history.append(record(epoch, 0.5, elapsed=elapsed))
        if history.fold(ClockFold(60.0)).epoch == epoch:
            due.append(epoch)
    assert due == [2, 4, 6]


@pytest.mark.parametrize(("every", "planned", "said"), [(None, 5, False), (5, 5, False), (6, 5, True), (6, 0, False)])
def test_what_is_never_due(every, planned, said):
    assert bool(never_due(every, Plan(planned_epochs=planned))) is said
