"""The time that is left of a run."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks import EpochRecord, History, Plan
from yolo_callbacks.core.eta import WINDOW, Eta, time_left, typical

IMAGES = 100


def history(epochs, *, planned=50, close_mosaic=0, split=True, **fields):
    """Return a run whose epochs took (seconds of training, seconds of the rest, whether validated)."""
    told, elapsed = History(Plan(planned_epochs=planned, close_mosaic=close_mosaic)), 0.0
    for number, (training, rest, validated) in enumerate(epochs, start=1):
        elapsed += training + rest
        measures = {"seconds": training + rest, "images_per_second": IMAGES / training} if split else {}
        record = {"planned_epochs": planned, "last": number == planned, **fields}
        told.append(EpochRecord(number, {}, validated=validated, elapsed=elapsed, measures=measures, **record))
    return told


def left(epochs, end=50, *, images=IMAGES, **facts):
    asked = {key: facts.pop(key) for key in ("seconds_to_limit", "may_stop") if key in facts}
    return time_left(history(epochs, **facts), end, images=images, **asked)


STEADY = [(10.0, 3.0, True)] * 5


def test_nothing_is_known_before_the_first_epoch():
    assert time_left(History(Plan(planned_epochs=3)), 3, images=IMAGES) is None


def test_the_final_evaluation_is_priced_as_a_validation():
    assert left(STEADY).seconds == pytest.approx(45 * 13 + 3)
    assert left([(10.0, 3.0, True)] * 50).seconds == pytest.approx(3)


def test_without_a_split_an_epoch_has_one_price():
    assert left(STEADY, images=0).seconds == pytest.approx(45 * 13)
    assert left(STEADY, split=False).seconds == pytest.approx(45 * 13)


@pytest.mark.parametrize("split", [True, False])
def test_skipped_validations_cost_nothing_but_the_last_epoch_has_one(split):
    fifth = [(10.0, 0.0 if number % 5 else 4.0, number % 5 == 0) for number in range(1, 21)]
    expected = 30 * 10 + (1 + 29 * 0.2) * 4 + 4
    assert left(fifth, split=split).seconds == pytest.approx(expected, rel=0.02)


def test_a_validation_that_is_rarer_than_the_window_keeps_its_price():
    rare = [(10.0, 0.0 if number != 5 else 60.0, number == 5) for number in range(1, 41)]
    assert left(rare).seconds == pytest.approx(100 + 60 * (1 + 9 / 40) + 60)


def test_without_validation_the_final_evaluation_has_no_price_yet():
    assert left([(10.0, 1.0, False)] * 5).seconds == pytest.approx(45 * 11 + 1)


def test_a_slow_first_epoch_counts_only_while_it_is_the_only_one():
    slow = (100.0, 3.0, True)
    assert left([slow]).seconds == pytest.approx(49 * 103 + 3)
    assert left([slow, *STEADY[:1]]).seconds == pytest.approx(48 * 13 + 3)


def test_a_pause_does_not_count_and_a_lasting_change_soon_does():
    paused = [*STEADY, (5000.0, 3.0, True), *STEADY]
    assert left(paused).seconds == pytest.approx(39 * 13 + 3)
    faster = [*[(10.0, 3.0, True)] * 20, *[(5.0, 3.0, True)] * 16]
    assert left(faster).seconds == pytest.approx(14 * 8 + 3)


def test_epochs_without_mosaic_price_the_rest_once_there_are_three():
    epochs = [*[(10.0, 3.0, True)] * 40, (20.0, 3.0, True), *[(8.0, 3.0, True)] * 2]
    assert left(epochs, close_mosaic=10).seconds == pytest.approx(7 * 11 + 3)
    assert left(epochs[:42], close_mosaic=10).seconds > 8 * 12


def test_a_finish_brings_the_end_forward():
    assert left(STEADY, end=9).seconds == pytest.approx(4 * 13 + 3)


def test_a_time_limit_is_the_end_and_a_finish_before_it_counts():
    assert left(STEADY, seconds_to_limit=200.0).seconds == pytest.approx(200 + 3 + 3)
    assert left(STEADY, end=9, seconds_to_limit=200.0).seconds == pytest.approx(4 * 13 + 3)
    begun = {"planned_before_finish": 80, "planned": 9}
    assert left(STEADY, end=9, seconds_to_limit=200.0, **begun).seconds == pytest.approx(4 * 13 + 3)
    assert left(STEADY, seconds_to_limit=-5.0).seconds == pytest.approx(3 + 3)


def test_at_most_while_something_may_stop_the_run():
    assert left(STEADY, may_stop=True).at_most
    assert not left(STEADY).at_most
    assert not left([(10.0, 3.0, True)] * 50, may_stop=True).at_most  # nothing is left to stop


def test_within_an_epoch_it_counts_down_to_what_is_left_without_that_epoch():
    eta = left(STEADY)
    assert eta.after(5.0).seconds == pytest.approx(eta.seconds - 5)
    assert eta.after(9999.0).seconds == pytest.approx(eta.seconds - 13)
    assert Eta(3.0).after(9999.0).seconds == 0.0


def test_words():
    assert str(Eta(59.0)) == "about 59 s"
    assert str(Eta(7260.0, at_most=True)) == "at most 2 h 1 min"


SECONDS = st.floats(0.01, 1e6)
EPOCHS = st.lists(st.tuples(SECONDS, st.floats(0, 1e6), st.booleans()), min_size=1, max_size=30)
LIMIT = st.none() | st.floats(-1e6, 1e6)


@settings(deadline=None, max_examples=50)
@given(EPOCHS, st.integers(0, 60), LIMIT, st.sampled_from([0, IMAGES]), st.integers(0, 60), st.floats(-10, 1e7))
def test_it_is_never_negative_and_never_grows_within_an_epoch(epochs, end, limit, images, close, passed):
    eta = left(epochs, end, images=images, seconds_to_limit=limit, close_mosaic=close)
    assert 0 <= eta.epoch_seconds <= eta.seconds < math.inf
    later = eta.after(passed)
    assert 0 <= later.epoch_seconds <= later.seconds <= eta.seconds
    assert later.after(1.0).seconds <= later.seconds


@settings(deadline=None, max_examples=50)
@given(EPOCHS, st.integers(31, 60), st.integers(0, 30), st.sampled_from([0, IMAGES]))
def test_more_epochs_take_longer(epochs, end, more, images):
    assert left(epochs, end, images=images).seconds <= left(epochs, end + more, images=images).seconds * (1 + 1e-9)


@settings(deadline=None, max_examples=50)
@given(EPOCHS, st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_later_limit_leaves_more_time(epochs, limit, more):
    assert left(epochs, seconds_to_limit=limit).seconds <= left(epochs, seconds_to_limit=limit + more).seconds


@settings(deadline=None, max_examples=50)
@given(st.lists(SECONDS, min_size=1))
def test_the_typical_value_is_one_between_them(values):
    assert min(values) * (1 - 1e-9) <= typical(values) <= max(values) * (1 + 1e-9)


def test_a_long_run_costs_no_more_per_epoch():
    told = history([(10.0, 3.0, True)] * 3000, planned=4000)
    eta = time_left(told, 4000, images=IMAGES)
    state = next(iter(told._folds.values()))[1]
    assert len(state.epochs) == len(state.validated) == WINDOW
    assert eta.seconds == pytest.approx(1000 * 13 + 3)


def test_validations_to_come_have_their_price():
    """Lately every second epoch was validated, and from now on all are."""
    measures = {"images_per_second": 1.0}
    records, clock = [], 0.0
    for epoch in range(1, 21):
        seconds = 60.0 + 30.0 * (epoch % 2)
        clock += seconds
        taken = {**measures, "seconds": seconds}
        records.append(EpochRecord(epoch, {}, validated=bool(epoch % 2), elapsed=clock, measures=taken))
    history = History(Plan(planned_epochs=30), records)
    few, all_of_them = (time_left(history, 30, images=60, validations=number) for number in (5.0, 10.0))
    assert all_of_them.seconds - few.seconds == pytest.approx(5 * 30.0)
