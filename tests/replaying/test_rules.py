"""What can be replayed."""

import pytest

import yolo_callbacks as ycb
from tests.replaying.logs import rise_and_fall, write_csv
from yolo_callbacks import UnknownMetricError
from yolo_callbacks.replaying.rules import PATIENCES, patience_rules, rules_of


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({}, ValueError, "there is no rule to replay"),
        ({"a": [1]}, TypeError, "is not a Callback"),
        (7, TypeError, "must be a list of callbacks"),
    ],
)
def test_rules_that_are_none(tmp_path, rules, error, message):
    with pytest.raises(error, match=message):
        ycb.replay(write_csv(tmp_path, [0.5]), rules)


def test_a_callback_is_a_rule(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20))
    report = ycb.replay(folder, ycb.EarlyStopping(patience=4))
    assert repr(report) == "ReplayReport(1 run, callbacks, oracle: best, oracle: -0.005)"


def test_a_file_is_a_rule_and_nothing_is_several_patiences(tmp_path):
    folder = write_csv(tmp_path / "run", rise_and_fall(5, 20))
    (tmp_path / "mine.yaml").write_text("- EarlyStopping:\n    patience: 4\n- CSVLogger\n")
    assert ycb.replay(folder, tmp_path / "mine.yaml").rules[0] == "mine.yaml"
    assert "patience 50" in ycb.replay(folder).rules


def test_a_rule_for_each_patience():
    rules = patience_rules(" 20, 0.3 ,auto,")
    assert list(rules) == ["patience 20", "patience 0.3", "patience auto"]
    assert [stopping.patience for (stopping,) in rules.values()] == [20, 0.3, "auto"]
    assert [rule.name for rule in rules_of(None)] == [f"patience {word}" for word in PATIENCES.split(",")]


@pytest.mark.parametrize(("text", "message"), [("-1", "patience=-1 must be >= 1"), ("ten", "patience='ten' must be")])
def test_a_word_that_can_be_no_patience(text, message):
    with pytest.raises(ValueError, match=message):
        patience_rules(text)


def test_callbacks_are_asked_in_order_of_their_priority():
    (rule,) = rules_of([ycb.CSVLogger(), ycb.ModelCheckpoint(), ycb.EarlyStopping(), ycb.EarlyStopping("val_loss")])
    assert list(rule.callbacks) == ["EarlyStopping", "EarlyStopping-2", "ModelCheckpoint", "CSVLogger"]


def test_a_run_must_have_what_the_callbacks_that_decide_look_at():
    (rule,) = rules_of([ycb.EarlyStopping("val_loss"), ycb.MLflow()])
    rule.check(["val/box_loss"])
    with pytest.raises(UnknownMetricError, match="val_loss"):
        rule.check(["fitness"])
