"""The rule that brings the end of a run forward, and the way of the learning rate to it."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import decisions_of, record
from yolo_callbacks import (
    Callback,
    EarlyStopping,
    EpochRecord,
    Finish,
    Plan,
    Priority,
    ReduceLROnPlateau,
    Stop,
    StopReason,
)
from yolo_callbacks.core.decision import decision_from_json
from yolo_callbacks.core.epochs import in_epochs
from yolo_callbacks.core.finishing import FinishState, finish_after
from yolo_callbacks.core.learning_rate import Anneal
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import label

FLAT = [0.5] * 60


def finishing(**settings):
    return EarlyStopping(**{"patience": 3, "on_plateau": "finish", "finish_epochs": 5, **settings})


def ledger_of(callbacks, values, plan, stops=()):
    """Fold values as a session does: what is planned is what the trainer has been told."""
    ledger = Ledger(label(callbacks), plan)
    ledger.begin()
    for epoch, value in enumerate(values, 1):
        planned = ledger.finishing.end(plan.planned_epochs)
        if epoch > planned:
            break
        before = ledger.finishing.decision.planned_epochs if ledger.finishing.begun else 0
        rates = {"base_lr": 0.01, "next_base_lr": 0.009}
        ledger.add(record(epoch, value, planned=planned, planned_before_finish=before, **rates), stops)
        if ledger.entries[-1].stop:
            break
    return ledger


@pytest.mark.parametrize(
    ("settings", "plan", "expected"),
    [
        ({}, Plan(planned_epochs=40), (4, 9)),
        ({"finish_epochs": 0.2}, Plan(planned_epochs=40), (4, 12)),
        ({"finish_epochs": 0.07}, Plan(planned_epochs=100), (4, 11)),  # floating point says 7.000000000000001
        ({"finish_epochs": 1}, Plan(planned_epochs=40), (4, 5)),
        ({}, Plan(planned_epochs=40, close_mosaic=10), (4, 14)),
        ({}, Plan(planned_epochs=10), (4, 9)),
        ({}, Plan(planned_epochs=9), None),  # the planned end is as near
        ({}, Plan(planned_epochs=6), None),
        ({}, Plan(planned_epochs=14, close_mosaic=10), None),
        ({"patience": None}, Plan(planned_epochs=40, trainer_patience=6), (7, 12)),
        ({"patience": None}, Plan(planned_epochs=40), None),
    ],
)
def test_when_and_how_long(settings, plan, expected):
    decided = ledger_of([finishing(**settings)], FLAT, plan).decisions
    assert [(d.epoch, d.end_epoch) for d in decided] == ([expected] if expected else [])


def test_what_it_says():
    (decided,) = ledger_of([finishing()], FLAT, Plan(planned_epochs=40)).decisions
    assert decided == Finish(
        "finish by epoch 9 instead of 40: no improvement in fitness for 3 epochs (best: 0.5 in epoch 1)",
        4,
        "EarlyStopping",
        end_epoch=9,
        planned_epochs=40,
        base_lr=0.009,
    )
    assert (decided.kind, decided.label) == ("finish", "finish by epoch 9")
    assert decision_from_json(decided.to_json()) == decided


def test_a_run_that_finishes_goes_to_its_end_over_any_plateau():
    ledger = ledger_of([finishing()], FLAT, Plan(planned_epochs=40))
    assert ledger.history.epoch == 9
    assert ledger.history[-1].last
    assert ledger.entries[-1].stop is None


@pytest.mark.parametrize(
    ("settings", "value", "reason"),
    [
        ({}, math.nan, StopReason.NOT_FINITE),
        ({"divergence_threshold": 0.2}, 0.1, StopReason.DIVERGED),
        ({"stopping_threshold": 0.8}, 0.9, StopReason.THRESHOLD),
    ],
)
def test_everything_else_still_stops_it(settings, value, reason):
    values = [*FLAT[:6], value, *FLAT]
    ledger = ledger_of([finishing(**settings)], values, Plan(planned_epochs=40))
    assert [(type(d), d.epoch) for d in ledger.decisions] == [(Finish, 4), (Stop, 7)]
    assert ledger.decisions[-1].reason is reason


def test_a_reason_to_stop_comes_before_a_plateau():
    ledger = ledger_of([finishing(), EarlyStopping(patience=3)], FLAT, Plan(planned_epochs=40))
    assert [d.kind for d in ledger.decisions] == ["stop"]
    ledger = ledger_of([finishing(divergence_threshold=0.6)], FLAT, Plan(planned_epochs=40))
    assert [(d.kind, d.epoch) for d in ledger.decisions] == [("stop", 1)]


def test_shares_of_the_planned_epochs_stay_what_they_were():
    """Half of 40 is 20, also when the end has come forward to 21 and half of that has long been waited for."""
    callbacks = [finishing(patience=15), ReduceLROnPlateau(patience=0.5), EarlyStopping(patience=0.5)]
    ledger = ledger_of(callbacks, FLAT, Plan(planned_epochs=40))
    assert [(d.kind, d.epoch, d.end_epoch) for d in ledger.decisions if isinstance(d, Finish)] == [("finish", 16, 21)]
    assert len(ledger.decisions) == 1
    assert ledger.history.epoch == 21


def test_the_first_of_several_counts():
    callbacks = [finishing(patience=5), finishing(patience=4, finish_epochs=9), finishing(patience=4)]
    (decided,) = ledger_of(callbacks, FLAT, Plan(planned_epochs=40)).decisions
    assert (decided.source, decided.epoch, decided.end_epoch) == ("EarlyStopping-2", 5, 14)
    state = FinishState(decided)
    assert state.after(Finish("", 6, end_epoch=8)) is state
    assert state.after(Stop("", 6)) is state


def test_one_that_is_told_to_stop_stops_the_finish_of_another():
    ledger = ledger_of([finishing(), EarlyStopping(patience=6)], FLAT, Plan(planned_epochs=40))
    assert [(d.kind, d.epoch, d.source) for d in ledger.decisions] == [
        ("finish", 4, "EarlyStopping"),
        ("stop", 7, "EarlyStopping-2"),
    ]


def test_that_the_trainer_has_lost_its_patience_is_no_end_of_a_finish():
    impatient = Stop("", source="trainer", reason=StopReason.TRAINER_PATIENCE)
    asked = Stop("", source="request", reason=StopReason.REQUESTED)
    plan = Plan(planned_epochs=40, trainer_patience=1)
    tie = finishing(patience=None)
    ledger = Ledger(label([tie]), plan)
    ledger.begin()
    for epoch in (1, 2, 3):
        ledger.add(record(epoch, 0.5, planned=40), [impatient] if epoch > 1 else [])
    assert [d.kind for d in ledger.decisions] == ["finish"]
    ledger.add(record(4, 0.5, planned=40), [impatient, asked])
    assert ledger.decisions[-1].reason is StopReason.REQUESTED


class Asks(Callback):
    """Wants to finish, by an epoch of its own choice."""

    priority = Priority.DECIDE

    def __init__(self, epoch, end_epoch):
        self.epoch = epoch
        self.end_epoch = end_epoch

    def decide(self, history):
        return Finish("because", self.epoch, end_epoch=self.end_epoch) if history.epoch == self.epoch else None


@pytest.mark.parametrize(("epoch", "end", "rate"), [(0, 5, 0.01), (7, 8, 0.009), (7, 39, 0.009)])
def test_anybody_may_ask_for_it(epoch, end, rate):
    ledger = ledger_of([Asks(epoch, end)], FLAT, Plan(planned_epochs=40, base_lr=0.01))
    assert ledger.decisions == [Finish("because", epoch, "Asks", end_epoch=end, planned_epochs=40, base_lr=rate)]
    assert ledger.history.epoch == end


def test_what_would_not_bring_the_end_forward_is_left_out():
    ledger = ledger_of([Asks(7, 40), Asks(8, 50), Asks(9, 30)], FLAT, Plan(planned_epochs=40))
    assert [(d.source, d.end_epoch) for d in ledger.decisions] == [("Asks-3", 30)]
    with pytest.raises(ValueError, match="end_epoch=7 must be after epoch 7, which is done"):
        Finish("", 7, end_epoch=7)


def test_other_decisions_of_the_same_epoch_hold():
    callbacks = [finishing(), ReduceLROnPlateau(patience=3, factor=0.5)]
    ledger = ledger_of(callbacks, FLAT, Plan(planned_epochs=40))
    assert [(d.kind, d.epoch) for d in ledger.decisions][:2] == [("finish", 4), ("set_learning_rate", 4)]


values = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=60)
lengths = st.one_of(st.integers(1, 70), st.floats(0.01, 0.99))
plans = st.builds(Plan, planned_epochs=st.integers(1, 60), close_mosaic=st.integers(0, 30))


@given(values, lengths, plans, st.integers(1, 8))
def test_once_never_later_than_planned_and_never_shorter_than_mosaic_needs(values, length, plan, patience):
    ledger = ledger_of([finishing(finish_epochs=length, patience=patience)], values, plan)
    finishes = [d for d in ledger.decisions if isinstance(d, Finish)]
    assert len(finishes) <= 1
    assert not any(isinstance(d, Stop) for d in ledger.decisions)
    assert ledger.history.epoch == min(len(values), ledger.finishing.end(plan.planned_epochs))
    for decided in finishes:
        assert decided.epoch < decided.end_epoch < plan.planned_epochs
        epochs = decided.end_epoch - decided.epoch
        assert epochs == max(plan.close_mosaic, in_epochs(length, plan.planned_epochs))


@given(values, st.integers(0, 60), plans)
def test_a_run_cut_anywhere_finishes_as_if_it_had_not_been(values, cut, plan):
    whole = ledger_of([finishing()], values, plan)
    resumed = Ledger(label([finishing()]), plan)
    resumed.begin()
    for entry in whole.entries[:cut]:
        resumed.add(entry.record)
    for entry in whole.entries[cut:]:
        assert resumed.finishing.end(plan.planned_epochs) == entry.record.planned_epochs
        resumed.add(entry.record)
    assert (resumed.entries, resumed.finishing) == (whole.entries, whole.finishing)


def test_where_the_effect_cannot_be_seen_it_is_decided_once_too():
    """In a replay the epochs go on as they did."""
    assert len(decisions_of(finishing(), FLAT)) > 1
    ledger = Ledger(label([finishing()]), Plan(planned_epochs=60))
    for epoch, value in enumerate(FLAT, 1):
        ledger.add(record(epoch, value, planned=60))
    assert [d.epoch for d in ledger.decisions] == [4]


@given(st.integers(0, 500), st.integers(0, 100), st.floats(0.02, 1.0), st.booleans())
def test_the_way_to_the_end_begins_where_it_is_falls_and_ends_at_the_final_value(start, more, first, cosine):
    way = Anneal(start, start + more, first * 0.01, 0.01, cosine)
    rates = [way.value(epoch, lambda epoch: first, 0.01) for epoch in range(start, start + more + 1)]
    assert rates[-1] == 0.01
    assert more == 0 or rates[0] == pytest.approx(first, rel=1e-12)
    assert all(before >= after for before, after in pairwise(rates))
    assert way.value(start - 1, lambda epoch: 7.0, 0.01) == 7.0
    assert way.value(start + more + 3, lambda epoch: first, 0.01) == 0.01


@pytest.mark.parametrize(
    ("cosine", "expected"), [(False, [0.5, 0.375, 0.25, 0.125, 0.0]), (True, [0.5, 0.4268, 0.25, 0.0732, 0.0])]
)
def test_its_shape(cosine, expected):
    way = Anneal(10, 14, 0.005, 0.0, cosine)
    assert [way.value(e, lambda e: 1.0, 0.01) for e in range(10, 15)] == pytest.approx(expected, abs=1e-4)
    of_a_log_without_rates = Anneal(10, 14, None, 0.0, cosine)
    assert [of_a_log_without_rates.value(e, lambda e: 0.5, 0.01) for e in range(10, 15)] == pytest.approx(
        expected, abs=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"on_plateau": "finnish"}, ValueError, "on_plateau='finnish' is not one of 'stop', 'finish' (did you mean"),
        ({"finish_epochs": 0}, ValueError, "finish_epochs=0 must be >= 1"),
        ({"finish_epochs": 1.5}, ValueError, "finish_epochs=1.5 must be a finite number > 0 and < 1"),
        ({"finish_epochs": "ten"}, TypeError, "finish_epochs='ten' must be a whole number >= 1"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        EarlyStopping(**arguments)
    assert message in str(caught.value)


def test_without_a_plan_there_is_nothing_to_bring_forward():
    assert finish_after(EpochRecord(4, {}), Plan(), 5, "") is None
