"""Which epochs a schedule validates: a pure function of the epochs so far."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import record
from yolo_callbacks import EarlyStopping, Plan, ReduceLROnPlateau, ValidationSchedule
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.record import EpochRecord, History

SHARED = settings(max_examples=60, deadline=None)


def validated(callbacks, values, *, planned=None, plan=None, seconds=1.0, train_seconds=9.0):
    """Return the epochs that are validated in a run with this fitness, had it been validated in each epoch."""
    planned = planned or len(values)
    ledger = Ledger({str(i): c for i, c in enumerate(callbacks)}, plan or Plan(planned_epochs=planned))
    ledger.begin()
    found, elapsed = [], 0.0
    for epoch, value in enumerate(values, start=1):
        end = ledger.finishing.end(planned)
        if epoch > end:
            break
        skip = ledger.skips_validation and epoch < end
        elapsed += train_seconds + (0 if skip else seconds)
        metrics = {} if skip else {"fitness": value, "validation/seconds": seconds}
        before = planned if ledger.finishing.begun else 0
        last = {"planned_epochs": end, "last": epoch == end, "planned_before_finish": before}
        entry = ledger.add(EpochRecord(epoch, metrics, not skip, elapsed=elapsed, **last))
        found += [] if skip else [epoch]
        if entry.stop:
            break
    return found


RISING = [0.01 * epoch for epoch in range(1, 21)]
FLAT = [0.5] * 20


@pytest.mark.parametrize(
    ("arguments", "values", "expected"),
    [
        ({"every": 5, "always_last": 1}, RISING, [1, 5, 10, 15, 20]),
        ({"every": 5}, RISING, [1, 5, 10, *range(13, 21)]),  # the last 40 %
        ({"every": 6, "always_last": 3}, RISING, [1, 6, 12, 18, 19, 20]),
        ({"every": 6, "always_last": 0.15}, RISING, [1, 6, 12, 18, 19, 20]),
        ({"every": 1, "always_last": 1}, RISING, list(range(1, 21))),
        ({"every": 50, "always_last": 1}, RISING, [1, 20]),
        ({"every": 5, "always_last": 1, "start_epoch": 12}, RISING, [1, 13, 15, 20]),
        ({"every": 5, "always_last": 1, "start_epoch": 50}, RISING, [1, 20]),
        ({"every": 5, "always_last": 1, "on_improvement": 1}, [0.5] * 10 + [0.6] * 10, [1, 2, 5, 10, 15, 16, 20]),
        ({"every": 5, "always_last": 1, "on_improvement": 1}, FLAT, [1, 2, 5, 10, 15, 20]),
    ],
)
def test_the_epochs_of_a_schedule(arguments, values, expected):
    assert validated([ValidationSchedule(**arguments)], values) == expected


def test_the_last_epoch_with_mosaic_is_validated():
    plan = Plan(planned_epochs=20, close_mosaic=7)
    assert validated([ValidationSchedule(50, 1)], RISING, plan=plan) == [1, 13, 20]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (EarlyStopping(patience=7), [1, 8]),
        (EarlyStopping(patience=7, on_plateau="finish", finish_epochs=3), [1, 8, 9, 11]),
        (ReduceLROnPlateau(patience=7), [1, 8, 15, 20]),
        (ReduceLROnPlateau(patience=4, cooldown=6), [1, 5, 14, 20]),
    ],
)
def test_an_epoch_in_which_a_patience_may_run_out_is_validated(rule, expected):
    assert validated([ValidationSchedule(50, 1), rule], FLAT) == expected


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("rule", [EarlyStopping(patience=6), ReduceLROnPlateau(patience=4, cooldown=3)])
def test_on_a_plateau_a_rule_decides_in_the_same_epochs_with_and_without_a_schedule(rule, every):
    def decided(callbacks):
        ledger = Ledger({str(i): c for i, c in enumerate(callbacks)}, Plan(planned_epochs=30))
        ledger.begin()
        for epoch in range(1, 31):
            value = None if ledger.skips_validation else 0.5
            if ledger.add(record(epoch, value, planned=30)).stop:
                break
        return [(decision.epoch, decision.message) for decision in ledger.decisions]

    assert decided([ValidationSchedule(every, 1), rule]) == decided([rule]) != []


def test_a_run_of_unknown_length_is_validated_in_every_epoch():
    ledger = Ledger({"schedule": ValidationSchedule(5)}, Plan())
    ledger.begin()
    for epoch in range(1, 9):
        ledger.add(record(epoch, 0.5))
        assert not ledger.skips_validation


def test_a_budget_limits_the_share_of_validations():
    found = validated([ValidationSchedule(1, 1, budget=0.1)], [0.5] * 100, seconds=5.0, train_seconds=10.0)
    assert found[0] == 1
    assert found[-1] == 100
    assert pytest.approx(len(found), abs=2) == 100 * 10 * 0.1 / 0.9 / 5


def test_without_known_durations_a_budget_limits_nothing():
    assert validated([ValidationSchedule(1, 1, budget=0.01)], FLAT, seconds=0.0) == list(range(1, 21))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every=0 must be"),
        ({"every": "often"}, "every='often' must be a whole number of epochs >= 1, or 'auto'"),
        ({"always_last": 0}, "always_last=0 must be"),
        ({"always_last": 1.5}, "always_last=1.5 must be"),
        ({"start_epoch": -1}, "start_epoch=-1 must be"),
        ({"on_improvement": -1}, "on_improvement=-1 must be"),
        ({"budget": 1.0}, "budget=1.0 must be"),
    ],
)
def test_mistakes_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        ValidationSchedule(**arguments)


def test_it_says_so_if_it_skips_nothing():
    assert list(ValidationSchedule(5).impossible(Plan(planned_epochs=100))) == []
    (sentence,) = ValidationSchedule(5, 30).impossible(Plan(planned_epochs=20))
    assert sentence == "no validation is skipped: the first epoch and the last 30 epochs are all of this run"


schedules = st.builds(
    ValidationSchedule,
    every=st.one_of(st.integers(1, 12), st.just("auto")),
    always_last=st.one_of(st.none(), st.integers(1, 10), st.floats(0.05, 0.9)),
    start_epoch=st.integers(0, 6),
    on_improvement=st.integers(0, 2),
)
curves = st.lists(st.floats(0, 1), min_size=2, max_size=60)


@SHARED
@given(schedules, curves)
def test_first_and_last_are_validated_and_no_gap_is_longer_than_every(schedule, values):
    found = validated([schedule], values)
    assert found[0] == 1
    assert found[-1] == len(values)
    if isinstance(schedule.every, int):
        gaps = [after - before for before, after in itertools.pairwise(found) if before > schedule.start_epoch]
        assert max(gaps, default=0) <= schedule.every


@SHARED
@given(schedules, curves)
def test_the_last_epochs_are_all_validated(schedule, values):
    last = schedule.always_last
    if last is None and schedule.every == "auto":
        return
    count = last if isinstance(last, int) else math.floor((last or 0.4) * len(values))
    assert set(range(max(1, len(values) - count + 1), len(values) + 1)) <= set(validated([schedule], values))


@SHARED
@given(st.integers(1, 4), st.floats(0.05, 0.6), st.floats(0.1, 30), curves)
def test_the_budget_is_kept_by_all_but_the_first_and_the_last(every, budget, seconds, values):
    found = validated([ValidationSchedule(every, 1, budget=budget)], values, seconds=seconds, train_seconds=10.0)
    for number, epoch in enumerate(found[1:-1], start=2):
        assert number * seconds <= budget * (epoch * 10.0 + number * seconds) + 1e-6


@SHARED
@given(schedules, curves)
def test_a_resumed_run_goes_on_with_the_same_schedule(schedule, values):
    assert validated([schedule], values) == validated([ValidationSchedule(**schedule.get_config())], values)


@pytest.mark.parametrize("arguments", [{}, {"every": 3, "always_last": 2}, {"every": 7, "start_epoch": 20}])
def test_it_says_how_many_validations_are_to_come(arguments):
    """The time that is left is priced with them; the number may be off by two, as it knows no special epochs."""
    schedule, plan = ValidationSchedule(**arguments), Plan(planned_epochs=60)
    history = History(plan)
    told, validated = {}, []
    for epoch in range(1, 61):
        told[epoch - 1] = schedule.validations(history, 60)
        checked = epoch == 1 or not schedule.can_skip_validation(history)
        validated.append(checked)
        numbers = {"fitness": 0.5} if checked else {}
        history.append(EpochRecord(epoch, numbers, validated=checked, planned_epochs=60))
    for done, number in told.items():
        assert number == pytest.approx(sum(validated[done:]), abs=2)


def test_a_schedule_that_decides_as_it_goes_does_not_say():
    history = History(Plan(planned_epochs=60))
    assert ValidationSchedule(every="auto").validations(history, 60) is None
    assert ValidationSchedule(budget=0.1).validations(history, 60) is None
