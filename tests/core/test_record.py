"""Plan, records and the history that folds them."""

import json
import math

import pytest

from tests.helpers import record
from yolo_callbacks import EpochRecord, History, Plan
from yolo_callbacks.core.record import record_from_json, record_to_json, warm_up


@pytest.mark.parametrize(("asked", "planned", "expected"), [(3.0, 10, 3.0), (3.0, 3, 2.0), (3.0, 0, 0), (0.5, 9, 0.5)])
def test_the_warm_up_never_takes_all_epochs(asked, planned, expected):
    assert warm_up(asked, planned) == expected


def test_the_epochs_of_the_warm_up():
    assert [Plan(warmup_epochs=2.5).warms_up(epoch) for epoch in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("close", "planned", "closed"), [(0, 6, []), (2, 6, [5, 6]), (6, 6, []), (9, 6, []), (5, 6, [2, 3, 4, 5, 6])]
)
def test_the_epochs_without_mosaic(close, planned, closed):
    plan = Plan(planned_epochs=planned, close_mosaic=close)
    assert [e for e in range(1, planned + 1) if plan.mosaic_closed(record(e, 0.5, planned=planned))] == closed


def test_a_record_is_read_back_as_it_was():
    written = EpochRecord(
        3, {"a": math.inf, "b": 1 / 3}, validated=False, planned_epochs=9, base_lr=-math.inf, measures={"seconds": 0.1}
    )
    line = json.dumps(record_to_json(written), allow_nan=False)
    assert record_from_json(json.loads(line)) == written


class Counting:
    """A fold that counts how often it was asked."""

    def __init__(self):
        self.steps = 0

    def initial(self, plan):
        return plan.planned_epochs

    def step(self, state, record):
        self.steps += 1
        return state + record.epoch


def test_a_fold_goes_on_from_where_it_stood():
    fold, history = Counting(), History(Plan(planned_epochs=100))
    assert history.fold(fold) == 100
    for epoch in (1, 2, 3):
        history.append(record(epoch, 0.5))
        assert history.fold(fold) == history.fold(fold) == 100 + sum(range(epoch + 1))
    assert fold.steps == 3


def test_epochs_may_be_missing_but_never_go_back():
    history = History(Plan(), [record(1, 0.5), record(4, 0.5)])
    assert (history.epoch, len(history), [item.epoch for item in history[:1]]) == (4, 2, [1])
    with pytest.raises(ValueError, match="epoch 4 cannot follow epoch 4"):
        history.append(record(4, 0.5))


def test_a_share_is_of_the_epochs_before_a_finish():
    assert record(1, 0.5, planned=9).whole_epochs == 9
    assert record(1, 0.5, planned=9, planned_before_finish=20).whole_epochs == 20
