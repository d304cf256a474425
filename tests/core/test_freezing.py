"""Which layers are meant, what is frozen and at what rate the rest learns: names in, names out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import record
from yolo_callbacks import FreezeBackbone, History, Plan, SetFrozen, SetLearningRate, Stop
from yolo_callbacks.core.decision import decision_from_json
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.layer_patterns import LayerNames, check_layers, select
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import label
from yolo_callbacks.support.checks import SettingError

# as of a YOLO: 12 layers with a convolution and a BatchNorm, but for layer 11, which has nothing to learn
_PARAMETERS = tuple(f"model.{i}.{part}" for i in (*range(11), 12) for part in ("conv.weight", "bn.weight", "bn.bias"))
_MODULES = ("model", *(f"model.{i}" for i in range(13)))
_INNER = tuple(f"model.{i}.{part}" for i in (*range(11), 12) for part in ("conv", "bn"))
YOLO = LayerNames(_PARAMETERS, (*_MODULES, *_INNER), tuple(f"model.{i}" for i in range(10)))


def layers_of(parameters):
    return sorted({int(name.split(".")[1]) for name in parameters})


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, range(10)),
        (3, range(3)),
        (12, range(11)),  # the first 12 layers, one of which has nothing to learn
        ([3, "model.12"], [3, 12]),
        ("model.1", [1]),  # not model.10 and model.12
        ("model.1.", [1]),
        ("model.1*", [1, 10, 12]),
        ("model.1[02]", [10, 12]),
        ("model.[!0-8]", [9]),
        ("*.conv", [*range(11), 12]),
    ],
)
def test_layers_by_number_name_and_pattern(layers, expected):
    assert layers_of(select(check_layers(layers), YOLO)) == list(expected)


def test_a_pattern_may_mean_single_parameters():
    assert select(("model.0.bn", "model.1*.bias"), YOLO) == {
        "model.0.bn.weight",
        "model.0.bn.bias",
        "model.1.bn.bias",
        "model.10.bn.bias",
        "model.12.bn.bias",
    }


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["model.0", "modle.9"], r"'modle\.9' is no layer .* \(did you mean 'model\.9'\?\); its layers are model\.0, "),
        (14, r"'model\.13' is no layer"),
        ("model.1.conv.wieght", r"did you mean 'model\.1\.conv\.weight'"),
        ("model.11", "there is nothing to learn in model.11"),
    ],
)
def test_a_pattern_that_means_nothing_says_what_there_is(layers, message):
    with pytest.raises(SettingError, match=message):
        select(check_layers(layers), YOLO)


def test_a_model_without_a_backbone_wants_names():
    names = LayerNames(("net.features.0.weight", "net.fc.weight"), ("net", "net.features", "net.features.0", "net.fc"))
    with pytest.raises(ValueError, match=r"this model has none: name its layers, which are net\.features, net\.fc"):
        select(None, names)
    assert select(("net.fc",), names) == {"net.fc.weight"}


@pytest.mark.parametrize("layers", [True, 1.5, {"model.0": 1}, [None], [True], [1.0]])
def test_what_cannot_name_layers(layers):
    with pytest.raises(TypeError, match="must be None for the backbone"):
        check_layers(layers)
    with pytest.raises(TypeError):
        FreezeBackbone(2, layers=layers)


@pytest.mark.parametrize("layers", [0, -1, [], "", [""], ".", [-1]])
def test_what_names_no_layer(layers):
    with pytest.raises(ValueError, match="layers="):
        check_layers(layers)


# ------------------------------------------------------------------------------------------------- the state

patterns = st.lists(
    st.sampled_from(["model.0", "model.1*", "*.bn", "model.3.conv.weight", "*.bias"]),
    min_size=1,
    max_size=4,
    unique=True,
)
choices = st.one_of(st.none(), patterns.map(tuple))
decisions = st.builds(
    SetFrozen,
    message=st.just(""),
    source=st.sampled_from(["a", "b", "c"]),
    layers=choices,
    frozen=st.booleans(),
    lr_factor=st.sampled_from([1.0, 0.5, 0.25, 2.0]),
)


def state_of(decided):
    state = FreezeState()
    for decision in decided:
        state = state.after(decision)
    return state


@settings(deadline=None)
@given(st.lists(decisions, max_size=8))
def test_a_layer_is_frozen_while_anybody_wants_it_and_has_no_rate_then(decided):
    state = state_of(decided)
    newest = {(d.source, d.layers): d for d in decided}  # what a source said last of some layers
    meant = {key: select(d.layers, YOLO) for key, d in newest.items()}
    for name in YOLO.parameters:
        asked = [d for key, d in newest.items() if name in meant[key]]
        factor = 1.0
        for decision in asked:
            factor *= decision.lr_factor
        frozen = any(d.frozen for d in asked)
        assert (name in state.frozen(YOLO)) == frozen
        assert state.factors(YOLO).get(name, 1.0) == (1.0 if frozen else factor)


@settings(deadline=None)
@given(st.lists(decisions, max_size=6))
def test_decisions_are_read_back_from_the_journal_and_give_the_same_state(decided):
    read = [decision_from_json(d.to_json()) for d in decided]
    assert read == decided
    assert state_of(read) == state_of(decided)


def test_other_decisions_change_nothing():
    state = state_of([SetFrozen("", layers=("model.0",))])
    assert state.after(Stop("", 1)) is state
    assert state.after(SetLearningRate("", 1)) is state
    assert not FreezeState().touched
    assert state.touched


def test_a_list_is_taken_as_well_as_a_tuple():
    assert SetFrozen("", layers=["model.0"]) == SetFrozen("", layers=("model.0",))


def test_labels():
    assert SetFrozen("").label == "froze backbone"
    assert SetFrozen("", layers=("a", "b"), frozen=False, lr_factor=0.1).label == "unfroze a, b at lr x 0.1"
    assert SetFrozen("", layers=check_layers(10), frozen=False).label == "unfroze model.0 ... model.9"
    assert SetFrozen("", routine=True).label == ""


# ------------------------------------------------------------------------------------------------- the callback


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
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FreezeBackbone(**arguments)
