import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import record
from yolo_callbacks import (
    Callback,
    EarlyStopping,
    Finish,
    LearningRateScheduler,
    ModelCheckpoint,
    Plan,
    ReduceLROnPlateau,
    SaveCheckpoint,
    SetFrozen,
    SetLearningRate,
    Stop,
    StopReason,
)
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import label
from yolo_callbacks.core.monitor import Monitor

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


class OfNumpy(Callback):
    """Says everything in numbers of numpy."""

    def counters(self, history):
        return {"share": np.float32(0.5), "epochs": np.int64(history.epoch)}

    def decide(self, history):
        epoch = np.int64(history.epoch)
        if history.epoch == 1:
            return [
                SetLearningRate("slower", epoch, factor=np.float32(0.5), min_lr=np.float16(0)),
                SetFrozen("frozen", epoch, layers=np.int64(2), lr_factor=np.float32(0.5)),
                SaveCheckpoint("kept", epoch, file="x.pt", value=np.float32("nan"), announce=np.bool_(False)),
                Finish("finish", epoch, end_epoch=np.int64(9)),
            ]
        return Stop("stop", epoch)


def test_numbers_of_numpy_stay_in_the_journal_as_what_they_are():
    first, second = ledger_of([OfNumpy()], [0.1, 0.2]).entries
    data = json.loads(first.to_line())
    assert data["counters"] == {"OfNumpy/share": 0.5, "OfNumpy/epochs": 1}
    slower, frozen, kept, finish = data["decisions"]
    assert (slower["factor"], slower["min_lr"], slower["epoch"]) == (0.5, 0.0, 1)
    assert (frozen["layers"], frozen["lr_factor"]) == (["model.0", "model.1"], 0.5)
    assert (kept["value"], kept["announce"]) == ("nan", False)
    assert finish["end_epoch"] == 9
    assert json.loads(second.to_line())["decisions"][0]["epoch"] == 2


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), "half", None])
def test_a_factor_that_is_none_fails_where_it_is_made(value):
    for make in (lambda: SetLearningRate("", factor=value), lambda: SetFrozen("", lr_factor=value)):
        with pytest.raises((TypeError, ValueError), match="factor="):
            make()


class Miscounts(Callback):
    def counters(self, history):
        return {"wait": "long"}


def test_a_count_that_is_no_number_names_the_callback():
    with pytest.raises(
        TypeError, match=r"^Miscounts\.counters\(\)\['wait'\] is 'long', but it must be a number, not str$"
    ):
        ledger_of([Miscounts()], [0.1])


def test_who_folds_may_survive_a_wrong_count():
    told = []
    ledger = Ledger(label([Miscounts(), EarlyStopping()]), PLAN, lambda *error: told.append(error))
    entry = ledger.add(record(1, 0.5, planned=50))
    assert entry.counters == {"EarlyStopping/wait": 0}
    assert [(name, step) for name, step, _ in told] == [("Miscounts", "counters")]


@dataclass
class Plus:
    """A function that is an object, and has no hash."""

    bonus: float

    def __call__(self, *numbers):
        return self.bonus + (numbers[0]["fitness"] if len(numbers) == 1 else numbers[1] / 2)


def test_a_function_may_be_an_object_without_a_hash():
    stopping = EarlyStopping(monitor=Plus(0.1), mode="max", patience=2)
    checkpoint = ModelCheckpoint(monitor=Plus(0.1), mode="max")
    ledger = ledger_of([stopping, checkpoint, LearningRateScheduler(Plus(0.0))], [0.5] * 3)
    assert [d.value for d in ledger.decisions if isinstance(d, SaveCheckpoint)] == [pytest.approx(0.6)]
    assert ledger.decisions[-1].message.startswith("stop, no improvement in Plus for 2 epochs")
    assert next(d.factor for d in ledger.decisions if isinstance(d, SetLearningRate)) == 0.5
    one, same, other = (Monitor.of(Plus(bonus), "max") for bonus in (0.1, 0.1, 0.2))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
