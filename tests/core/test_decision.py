"""Decisions as plain data: what they are called, and that they are read back as they were."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks import Finish, SaveCheckpoint, SetFrozen, SetLearningRate, Stop, StopReason
from yolo_callbacks.core.decision import decision_from_json, is_announced

texts = st.text(max_size=9)
common = {"message": texts, "epoch": st.integers(0, 99), "source": texts}
factors = st.floats(0, 100)
numbers = st.one_of(st.none(), st.floats(allow_nan=False))
decisions = st.one_of(
    st.builds(Stop, **common, reason=st.sampled_from(StopReason)),
    st.builds(Finish, **common, end_epoch=st.integers(100, 999), planned_epochs=st.integers(0, 999)),
    st.builds(SetLearningRate, **common, factor=factors, min_lr=factors, routine=st.booleans()),
    st.builds(SetFrozen, **common, frozen=st.booleans(), lr_factor=factors, layers=st.none() | st.just(("model.0",))),
    st.builds(SaveCheckpoint, **common, file=texts, value=numbers, drop=st.lists(texts, max_size=2).map(tuple)),
)


@given(decisions)
def test_what_is_written_is_read_back(decision):
    line = json.dumps(decision.to_json(), allow_nan=False)
    assert decision_from_json(json.loads(line)) == decision


def test_a_value_that_is_no_number_is_read_back_too():
    kept = SaveCheckpoint("", value=math.nan)
    assert math.isnan(decision_from_json(json.loads(json.dumps(kept.to_json()))).value)


@pytest.mark.parametrize("kind", ["explode", None])
def test_a_kind_of_a_newer_version_is_refused(kind):
    with pytest.raises(ValueError, match=f"unknown decision kind {kind!r}, known are stop, finish, set_learning_rate"):
        decision_from_json({"kind": kind, "message": ""})


@pytest.mark.parametrize(
    ("decision", "label"),
    [
        (Stop("", reason=StopReason.PLATEAU), "stop (plateau)"),
        (Finish("", 3, end_epoch=9), "finish by epoch 9"),
        (SetLearningRate("", factor=0.12345), "lr factor 0.123"),
        (SetLearningRate("", factor=0.1, routine=True), ""),
        (SaveCheckpoint("", file="weights/deep/a.pt"), "best -> a.pt"),
        (SaveCheckpoint("", file="weights/a.pt", role="latest"), ""),
    ],
)
def test_labels(decision, label):
    assert decision.label == label


@pytest.mark.parametrize("make", [SetLearningRate, SetFrozen, SaveCheckpoint])
def test_what_is_not_worth_a_line_is_not_announced(make):
    assert is_announced(make(""))
    assert not is_announced(make("", announce=False))


def test_the_end_of_a_run_is_always_announced():
    assert is_announced(Stop(""))
    assert is_announced(Finish("", end_epoch=1))


def test_an_end_that_is_over_already_is_none():
    with pytest.raises(ValueError, match="end_epoch=3 must be after epoch 3, which is done"):
        Finish("", 3, end_epoch=3)


def test_which_reasons_leave_something_to_train():
    outside = {str(reason) for reason in StopReason if reason.from_outside}
    assert outside == {"requested", "interrupted", "preempted", "time_limit", "cancelled", "external"}
