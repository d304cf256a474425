import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import record
from yolo_callbacks import (
    Callback,
    EarlyStopping,
    Finish,
    Plan,
    ReduceLROnPlateau,
    SetFrozen,
    SetLearningRate,
    Stop,
    StopReason,
)
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import label

PLAN = Plan(planned_epochs=50, base_lr=0.01, final_lr=1e-4, trainer_patience=100)


def ledger_of(callbacks, values, planned=50, stops=()):
    ledger = Ledger(label(callbacks), PLAN)
    ledger.begin()
    for epoch, value in enumerate(values, 1):
        ledger.add(record(epoch, value, planned=planned, base_lr=0.01), stops if epoch == len(values) else ())
    return ledger


def test_decisions_carry_their_epoch_and_source():
    ledger = ledger_of([ReduceLROnPlateau(patience=2, factor=0.5), EarlyStopping(patience=3)], [0.5] * 4)
    assert [(d.kind, d.epoch, d.source) for d in ledger.decisions] == [
        ("set_learning_rate", 3, "ReduceLROnPlateau"),
        ("stop", 4, "EarlyStopping"),
    ]
    assert ledger.entries[3].counters["EarlyStopping/wait"] == 3
    assert ledger.learning_rate.apply(1.0, 0.01) == 0.5


def test_after_the_last_epoch_there_is_nothing_to_stop_or_to_slow_down():
    callbacks = [ReduceLROnPlateau(patience=2), EarlyStopping(patience=2)]
    asked = [Stop("Ctrl-C", source="request")]
    assert ledger_of(callbacks, [0.5] * 3, planned=3, stops=asked).decisions == []
    assert len(ledger_of(callbacks, [0.5] * 3, planned=4).decisions) == 1


def test_a_run_that_stops_needs_no_other_learning_rate():
    ledger = ledger_of([ReduceLROnPlateau(patience=2), EarlyStopping(patience=2)], [0.5] * 3)
    assert [d.kind for d in ledger.decisions] == ["stop"]


def test_a_stop_from_outside_is_noted_where_no_callback_stops_anyway():
    outside = [Stop("Ctrl-C", source="request", reason=StopReason.INTERRUPTED), Stop("trainer", source="trainer")]
    (noted,) = ledger_of([], [0.5] * 3, stops=outside).decisions
    assert (noted.epoch, noted.reason) == (3, StopReason.INTERRUPTED)
    (own,) = ledger_of([EarlyStopping(patience=2)], [0.5] * 3, stops=outside).decisions
    assert own.reason is StopReason.PLATEAU


def test_two_of_a_class_have_labels_of_their_own():
    ledger = ledger_of(
        [EarlyStopping(patience=3), EarlyStopping(monitor="train/box_loss", patience=2)], [0.1, 0.2, 0.3]
    )
    assert [d.source for d in ledger.decisions] == ["EarlyStopping-2"]
    assert set(ledger.entries[0].counters) == {"EarlyStopping/wait", "EarlyStopping-2/wait"}


class Rounds(Callback):
    """Asks for a factor before the first epoch."""

    def decide(self, history):
        if not history:
            yield SetLearningRate("warm start", factor=0.5)


def test_a_decision_before_the_first_epoch_and_an_iterable_of_decisions():
    ledger = ledger_of([Rounds()], [])
    assert [(d.epoch, d.source) for d in ledger.decisions] == [(0, "Rounds")]
    assert ledger.learning_rate.apply(1.0, 0.01) == 0.5


class Hasty(Callback):
    """Decides without saying after which epoch."""

    def __init__(self, decision):
        self.decision = decision

    def decide(self, history):
        return self.decision if history.epoch >= 3 else None


@pytest.mark.parametrize("decision", [Stop("s"), Finish("f", end_epoch=9), SetLearningRate("l"), SetFrozen("z")])
def test_a_decision_without_an_epoch_is_of_the_epoch_that_it_was_taken_after(decision):
    ledger = ledger_of([Hasty(decision)], [0.5] * 3)
    assert [(d.kind, d.epoch, d.source) for d in ledger.decisions] == [(decision.kind, 3, "Hasty")]
    assert ledger.finishing.decision is None or ledger.finishing.decision.epoch == 3


def test_asking_for_a_finish_again_and_again_does_no_harm():
    ledger = ledger_of([Hasty(Finish("f", end_epoch=5))], [0.5] * 5)
    assert [(d.kind, d.epoch) for d in ledger.decisions] == [("finish", 3)]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=40), st.integers(0, 40))
def test_a_run_cut_anywhere_goes_on_as_if_it_had_not_been(values, cut):
    """What a resumed run decides from the journal of its first part is what the whole run decides."""

    def callbacks():
        return [EarlyStopping(patience=4), ReduceLROnPlateau(patience=2, factor=0.3, cooldown=1)]

    whole = ledger_of(callbacks(), values)
    first = ledger_of(callbacks(), values[:cut])
    resumed = Ledger(label(callbacks()), PLAN)
    resumed.begin()
    for entry in first.entries:
        resumed.add(entry.record)
    for epoch, value in list(enumerate(values, 1))[cut:]:
        resumed.add(record(epoch, value, planned=50, base_lr=0.01))
    assert resumed.entries == whole.entries
    assert resumed.learning_rate == whole.learning_rate


def test_epochs_cannot_go_back():
    ledger = ledger_of([], [0.1, 0.2])
    with pytest.raises(ValueError, match="epoch 2 cannot follow epoch 2"):
        ledger.add(record(2, 0.3))
