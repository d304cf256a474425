"""When a new best is worth a message."""

import pytest

from tests.helpers import NAN, SKIPPED, record
from yolo_callbacks import History, Plan
from yolo_callbacks.core.monitor import Monitor, ProgressFold
from yolo_callbacks.reporting.news import NewsFold


def told(values, seconds=0.0, mode="max", pause=10.0):
    """Return (epoch after which, value, epoch of the value) of each message; an epoch takes `pause` seconds."""
    fold = NewsFold(ProgressFold(Monitor.of("fitness", mode)), seconds)
    history, messages = History(Plan()), []
    for epoch, value in enumerate(values, 1):
        history.append(record(epoch, value, elapsed=pause * epoch))
        news = history.fold(fold)
        if news.told_in == epoch:
            messages.append((epoch, news.told, news.told_epoch))
    return messages


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.4], [(1, 0.1, 1), (2, 0.3, 2), (5, 0.4, 5)]),
        ([0.0, 0.0, 0.2], [(3, 0.2, 3)]),  # a score of 0 is no news
        ([SKIPPED, NAN, 0.2], [(3, 0.2, 3)]),
        ([], []),
    ],
)
def test_a_new_best_is_told(values, expected):
    assert told(values) == expected


def test_not_too_soon_after_the_last_one_and_then_the_best_of_all():
    assert told([0.1, 0.2, 0.4, 0.3, 0.3, 0.3, 0.3], seconds=35) == [(4, 0.4, 3)]
    assert told([0.1, 0.2, 0.4, 0.5, 0.3, 0.3, 0.3, 0.6], seconds=35) == [(4, 0.5, 4), (8, 0.6, 8)]


def test_it_is_known_what_was_told_before():
    fold = NewsFold(ProgressFold(Monitor.of("fitness", "max")), 0.0)
    history = History(Plan(), [record(epoch, value) for epoch, value in enumerate([0.1, 0.2, 0.5], 1)])
    news = history.fold(fold)
    assert (news.told, news.before, news.before_epoch) == (0.5, 0.2, 2)
