"""More epochs for a run: what the plan, the learning rate and a patience make of them."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import record
from yolo_callbacks import EarlyStopping, Finish, History, LearningRateScheduler, Plan, ReduceLROnPlateau, Stop
from yolo_callbacks.core.entry import JournalContent
from yolo_callbacks.core.extension import CONTINUE, HOLD, REWARM, SCHEDULES, Extension, check_schedule, extended
from yolo_callbacks.core.finishing import finish_in
from yolo_callbacks.core.forecast import ForecastFold
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import label
from yolo_callbacks.core.monitor import Monitor, ProgressFold
from yolo_callbacks.core.record import plan_from_json, plan_to_json
from yolo_callbacks.run_dir.journal import read_journal

FINAL = 0.01


def linear(planned):
    """Return Ultralytics' own schedule for a number of epochs."""
    return lambda epoch: max(1 - epoch / planned, 0) * (1 - FINAL) + FINAL


def rates(extension, planned=None, cosine=False):
    own = linear(planned or extension.planned_epochs)
    return [extension.value(epoch, own, 0.1, FINAL, cosine=cosine) for epoch in range(extension.planned_epochs)]


def test_continue_is_the_trainers_schedule_for_the_new_number_of_epochs():
    assert rates(Extension(10, 20, CONTINUE)) == [linear(20)(epoch) for epoch in range(20)]


def test_hold_keeps_the_rate_of_the_last_kept_epoch():
    assert rates(Extension(10, 15, HOLD, first_lr=0.0109))[10:] == pytest.approx([0.109] * 5)
    assert rates(Extension(10, 13, HOLD))[10:] == pytest.approx([linear(13)(9)] * 3)  # nobody knows it


def test_a_second_hold_holds_the_loss_where_the_first_did():
    first = Extension(60, 100, HOLD, planned_before=100)
    second = Extension(100, 130, HOLD, planned_before=100, held_progress=first.loss_progress)
    assert first.loss_progress == second.loss_progress == pytest.approx(60 / 99)


@settings(max_examples=40)
@given(
    after=st.integers(1, 200),
    length=st.integers(2, 200),
    held=st.floats(1e-4, 0.1),
    warmup=st.integers(0, 60),
    cosine=st.booleans(),
)
def test_rewarm_rises_to_the_initial_rate_and_ends_at_the_final_one(after, length, held, warmup, cosine):
    warmup = min(warmup, length // 3)
    values = rates(Extension(after, after + length, REWARM, first_lr=held, warmup_epochs=warmup), cosine=cosine)[after:]
    rise, fall = values[: warmup + 1], values[warmup:]
    assert all(held / 0.1 - 1e-9 <= value <= 1 + 1e-9 for value in rise)
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert max(values) == pytest.approx(1.0)
    assert values[-1] == pytest.approx(FINAL)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), st.sampled_from(SCHEDULES)), max_size=5))
def test_extensions_stay_in_order_and_survive_the_journal(made):
    extensions = ()
    for after, length, schedule in made:
        extensions = extended(extensions, Extension(after, after + length, schedule, first_lr=0.1))
        assert extensions[-1].after == after
    afters = [item.after for item in extensions]
    assert afters == sorted(set(afters))
    plan = Plan(planned_epochs=9, extensions=extensions)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_an_older_reader_is_told_and_a_plain_journal_stays_as_it_was(tmp_path):
    plain, more = (JournalContent(Plan(9, extensions=made), (), []).to_text() for made in ((), (Extension(3, 9),)))
    assert json.loads(plain) == {
        "format": 1,
        "plan": {
            "planned_epochs": 9,
            "base_lr": None,
            "final_lr": None,
            "trainer_patience": 0,
            "warmup_epochs": 0.0,
            "close_mosaic": 0,
        },
        "decisions": [],
    }
    assert json.loads(more)["format"] == 2
    (tmp_path / "journal.jsonl").write_text(more)
    assert read_journal(tmp_path / "journal.jsonl").plan.extensions == (Extension(3, 9),)


def test_each_part_of_a_run_has_its_own_mosaic_and_warm_up():
    plan = Plan(
        20, warmup_epochs=2, close_mosaic=3, extensions=(Extension(10, 20, REWARM, warmup_epochs=2), Extension(20, 24))
    )
    planned = {
        **dict.fromkeys(range(1, 11), 10),
        **dict.fromkeys(range(11, 21), 20),
        **dict.fromkeys(range(21, 25), 24),
    }
    closed = [epoch for epoch in planned if plan.mosaic_closed(record(epoch, 0.1, planned=planned[epoch]))]
    assert closed == [8, 9, 10, 18, 19, 20, 22, 23, 24]
    assert [epoch for epoch in planned if plan.warms_up(epoch)] == [1, 2, 11, 12]
    held = Plan(20, close_mosaic=3, extensions=(Extension(10, 20, HOLD, mosaic_closed=True),))
    assert not any(held.mosaic_closed(record(epoch, 0.1, planned=20)) for epoch in range(11, 21))


@settings(max_examples=40)
@given(values=st.lists(st.floats(0.1, 0.9), min_size=2, max_size=40), data=st.data())
def test_a_wait_begins_anew_in_an_extension_and_the_best_goes_on(values, data):
    after = data.draw(st.integers(1, len(values) - 1))
    plan = Plan(1000, extensions=(Extension(after, 1000),))
    records = [record(epoch, value, planned=1000) for epoch, value in enumerate(values, 1)]
    fold = ProgressFold(Monitor.of("fitness"))
    state, plain = History(plan, records).fold(fold), History(Plan(1000), records).fold(fold)
    assert (state.best, state.best_epoch) == (plain.best, plain.best_epoch)
    assert state.wait == min(plain.wait, len(values) - after)


def ledger_of(callbacks, epochs, plan, *, planned=10):
    ledger = Ledger(label(callbacks), plan)
    ledger.begin()
    for epoch in range(1, epochs + 1):
        last = epoch == planned and not plan.extended_after(epoch)
        length = planned if epoch <= planned else plan.planned_epochs
        one = record(epoch, 0.5, planned=length, base_lr=0.1, next_base_lr=0.1)
        ledger.add(one if last else type(one)(**{**vars(one), "last": False}))
    return ledger


def test_what_ended_a_run_does_not_end_its_extension():
    plan = Plan(20, base_lr=0.1, extensions=(Extension(5, 20, planned_before=10),))
    callbacks = [EarlyStopping(patience=4), ReduceLROnPlateau(patience=3), LearningRateScheduler(lambda epoch: 0.05)]
    before = ledger_of(callbacks, 5, Plan(10, base_lr=0.1))
    assert isinstance(before.decisions[-1], Stop)
    ledger = ledger_of(callbacks, 8, plan)
    assert not any(isinstance(decision, Stop) for decision in ledger.decisions)
    assert ledger.entries[-1].counters["EarlyStopping/wait"] == 3
    assert isinstance(ledger_of(callbacks, 9, plan).decisions[-1], Stop)


def test_a_finish_before_an_extension_has_been_and_there_may_be_another():
    rule = EarlyStopping(patience=2, on_plateau="finish", finish_epochs=2)
    ended = ledger_of([rule], 5, Plan(10))
    assert ended.finishing.end(10) == 5
    extended_run = ledger_of([rule], 5, Plan(30, extensions=(Extension(5, 30),)))
    assert not extended_run.finishing.begun
    again = ledger_of([rule], 7, Plan(30, extensions=(Extension(5, 30),)), planned=5)
    assert again.finishing.end(30) == 9
    assert finish_in(again.decisions, 7).end_epoch == 9
    assert finish_in(extended_run.decisions, 6) is None
    assert isinstance(finish_in(ended.decisions, 5), Finish)


def test_a_forecast_looks_at_the_epochs_of_the_extension_alone():
    plan = Plan(40, extensions=(Extension(20, 40),))
    rise = [record(epoch, math.log(epoch) / 4, planned=20) for epoch in range(1, 21)]
    flat = [record(epoch, 0.75, planned=40) for epoch in range(21, 41)]
    fold = ForecastFold(Monitor.of("fitness"))
    for number in range(1, 10):
        assert History(plan, rise + flat[:number]).fold(fold).expected_gain is None
    state = History(plan, rise + flat[:10]).fold(fold)
    assert state.epochs == tuple(range(21, 31))
    assert state.expected_gain is not None


def test_a_schedule_that_does_not_exist():
    with pytest.raises(ValueError, match="schedule='rewram' is not one of 'continue', 'hold', 'rewarm' \\(did"):
        check_schedule("rewram")
