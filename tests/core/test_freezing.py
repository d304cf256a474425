"""What is frozen and at what rate the rest learns, by all that was decided."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.layer_names import YOLO
from yolo_callbacks import SetFrozen, SetLearningRate, Stop
from yolo_callbacks.core.decision import decision_from_json
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.layer_patterns import check_layers, select

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
