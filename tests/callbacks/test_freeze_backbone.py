"""FreezeBackbone's decisions; that they are in force to the bit is tested in tests/e2e/test_freeze.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.callbacks.session_stub import SessionStub
from tests.core.layer_names import YOLO, layers_of
from tests.helpers import record
from yolo_callbacks import FreezeBackbone, History, Plan
from yolo_callbacks.core.layer_patterns import select
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import label


def run(callbacks, epochs, planned=None):
    """Return what is frozen, the factor, and the counter in each epoch; `planned` may differ from epoch to epoch."""
    plans = planned or [epochs] * epochs
    ledger = Ledger(label(callbacks), Plan(planned_epochs=plans[0]))
    ledger.begin()
    seen = []
    for epoch in range(1, epochs + 1):
        frozen, factors = ledger.freezing.frozen(YOLO), ledger.freezing.factors(YOLO)
        entry = ledger.add(record(epoch, 0.5, planned=plans[epoch - 1]))
        counter = entry.counters.get("FreezeBackbone/lr_factor")
        seen.append((layers_of(frozen), factors.get("model.0.conv.weight", 1.0), counter))
    return seen, ledger


BACKBONE = list(range(10))


def test_the_backbone_is_frozen_until_the_epoch_then_learns_slowly_at_first():
    seen, ledger = run([FreezeBackbone(2, lr_factor=0.1, lr_ramp_epochs=3)], 8)
    assert [frozen for frozen, _, _ in seen] == [BACKBONE] * 2 + [[]] * 6
    assert [factor for _, factor, _ in seen] == pytest.approx([1.0, 1.0, 0.1, 0.4, 0.7, 1.0, 1.0, 1.0])
    assert [counter for _, _, counter in seen] == pytest.approx([0.0, 0.0, 0.1, 0.4, 0.7, 1.0, 1.0, 1.0])
    assert [(d.epoch, d.label) for d in ledger.decisions] == [
        (0, "froze backbone"),
        (2, "unfroze backbone at lr x 0.1"),
        (3, ""),
        (4, ""),
        (5, ""),
    ]


def test_a_factor_without_a_ramp_stays():
    seen, ledger = run([FreezeBackbone(1, layers=2, lr_factor=0.5)], 5)
    assert [factor for _, factor, _ in seen] == [1.0, 0.5, 0.5, 0.5, 0.5]
    assert len(ledger.decisions) == 2


def test_until_epoch_0_freezes_nothing():
    seen, ledger = run([FreezeBackbone(0)], 3)
    assert seen == [([], 1.0, 1.0)] * 3
    assert ledger.decisions == []
    assert not ledger.freezing.touched
    seen, ledger = run([FreezeBackbone(0, lr_factor=0.1)], 3)
    assert seen == [([], 0.1, 0.1)] * 3
    assert [d.message for d in ledger.decisions] == ["the backbone learns at 0.1 of the learning rate"]


@pytest.mark.parametrize(("share", "planned", "last"), [(0.25, 8, 2), (0.3, 8, 3), (0.07, 100, 7), (0.001, 10, 1)])
def test_a_share_of_the_planned_epochs(share, planned, last):
    history = History(Plan(planned_epochs=planned))
    callback, thawed = FreezeBackbone(share), []
    for epoch in range(1, planned):
        history.append(record(epoch, 0.5, planned=planned))
        thawed += [d.epoch for d in callback.decide(history)]
    assert thawed == [last]


def test_what_learns_is_not_frozen_again_when_the_planned_epochs_move():
    """As they do with the trainer's `time`: 10 planned, then 20; half of them is passed, and then again is not."""
    seen, _ = run([FreezeBackbone(0.5)], 9, planned=[10] * 5 + [20] * 4)
    assert [frozen for frozen, _, _ in seen] == [BACKBONE] * 5 + [[]] * 4


def test_layer_by_layer():
    callbacks = [FreezeBackbone(1, layers=[9, "model.8"]), FreezeBackbone(3, lr_factor=0.5), FreezeBackbone(2, "*.bn")]
    seen, _ = run(callbacks, 5)
    assert [len(frozen) for frozen, _, _ in seen] == [12, 12, 10, 0, 0]
    assert seen[3][1] == 0.5


def test_a_run_that_ends_needs_nothing_unfrozen():
    _, ledger = run([FreezeBackbone(3)], 3)
    assert [d.epoch for d in ledger.decisions] == [0]


@settings(deadline=None)
@given(st.integers(0, 6), st.sampled_from([1.0, 0.5]), st.integers(0, 4), st.integers(0, 12))
def test_a_run_cut_anywhere_goes_on_as_if_it_had_not_been(until, factor, ramp, cut):
    def callback():
        return FreezeBackbone(until, lr_factor=factor, lr_ramp_epochs=ramp if factor != 1.0 else 0)

    whole, ledger = run([callback()], 12)
    again = Ledger(label([callback()]), Plan(planned_epochs=12))
    again.begin()
    for entry in ledger.entries[:cut]:
        again.add(entry.record)
    assert again.decisions == [d for d in ledger.decisions if d.epoch <= cut]
    if cut < 12:
        assert layers_of(again.freezing.frozen(YOLO)) == whole[cut][0]
        assert again.freezing.factors(YOLO).get("model.0.conv.weight", 1.0) == whole[cut][1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"until_epoch": -1}, ValueError, "until_epoch=-1 must be >= 0"),
        ({"until_epoch": 1.5}, ValueError, "until_epoch=1.5 must be a finite number"),
        ({"until_epoch": True}, TypeError, "until_epoch=True"),
        ({"until_epoch": "half"}, TypeError, "until_epoch='half'"),
        ({"until_epoch": 1, "lr_factor": 0.0}, ValueError, "lr_factor=0.0"),
        ({"until_epoch": 1, "lr_factor": float("nan")}, ValueError, "lr_factor=nan"),
        ({"until_epoch": 1, "lr_ramp_epochs": -1, "lr_factor": 0.1}, ValueError, "lr_ramp_epochs=-1"),
        ({"until_epoch": 1, "lr_ramp_epochs": 2}, ValueError, "lr_ramp_epochs=2 needs an lr_factor"),
        ({"until_epoch": 1, "verbose": -1}, ValueError, "verbose=-1 must be >= 0"),
        ({"until_epoch": 1, "layers": 1.5}, TypeError, "layers=1.5 must be None for the backbone"),
        ({"until_epoch": 1, "layers": True}, TypeError, "layers=True must be None for the backbone"),
        ({"until_epoch": 1, "layers": []}, ValueError, r"layers=\[\] must name at least one layer"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FreezeBackbone(**arguments)


# ---------------------------------------------------------------------------------------------- before it begins


class Run:
    """A run of a model with these layers."""

    def __init__(self, has_trained):
        self.has_trained = has_trained

    def parameters_of(self, layers):
        return select(layers, YOLO)


def set_up(callback, *, has_trained=False, asked=True):
    """Set a callback up in a run that has asked for decisions before the first epoch, or has not."""
    session = SessionStub(callback)
    session.run = Run(has_trained)
    if asked:
        session.ledger.begin()
    session.begin()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("modle.3", r"FreezeBackbone: 'modle\.3' is no layer .*\(did you mean 'model\.3'\?\)"),
        (14, r"FreezeBackbone: 'model\.13' is no layer .* model\.0, model\.1, \.\.\., model\.12"),
        ("model.11", "FreezeBackbone: there is nothing to learn in model.11"),
    ],
)
def test_layers_that_the_model_has_not(layers, message):
    with pytest.raises(ValueError, match=message):
        set_up(FreezeBackbone(2, layers=layers))


@pytest.mark.parametrize("how", [{"has_trained": True}, {"asked": False}])
def test_it_comes_too_late_where_there_is_something_to_freeze(how):
    with pytest.raises(ValueError, match=r"FreezeBackbone comes too late, .*: give it to ycb\.attach\(model, \["):
        set_up(FreezeBackbone(2, layers="*.bn"), **how)
    set_up(FreezeBackbone(0), **how)
    set_up(FreezeBackbone(2, layers="*.bn"))
