"""What rules would have done, against tables of what they should."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import yolo_callbacks as ycb
from tests.helpers import slower
from tests.replaying.logs import rise_and_fall, write_csv
from tests.replaying.test_logged_run import write_journal

PLAIN = {"warmup_epochs": 0, "close_mosaic": 0}
"""Arguments of a run in which every epoch counts."""


def outcome(folder, *callbacks, rule=None):
    report = ycb.replay(folder, {"rule": list(callbacks)})
    (found,) = report.of(rule or "rule")
    return found


def test_a_stop_saves_epochs_and_hours_and_loses_what_would_have_come(tmp_path):
    values = [*rise_and_fall(5, 15), 0.75, 0.7, 0.7, 0.7, 0.7]
    found = outcome(write_csv(tmp_path, values, epochs=20, seconds=360, **PLAIN), ycb.EarlyStopping(patience=5))
    assert (found.stop_epoch, found.reason, found.epochs_saved, found.saved) == (10, "plateau", 10, 0.5)
    assert found.hours_saved == pytest.approx(1.0)
    assert (found.best, found.best_epoch) == (0.75, 16)
    assert found.lost == pytest.approx(0.25)
    assert found.message == "stop, no improvement in fitness for 5 epochs (best: 0.5 in epoch 5)"


def test_a_rule_that_never_fires_saves_and_loses_nothing(tmp_path):
    found = outcome(write_csv(tmp_path, rise_and_fall(5, 9)), ycb.EarlyStopping(patience=50))
    assert (found.stop_epoch, found.saved, found.hours_saved, found.lost, found.reason) == (None, 0, 0, 0, "")


def test_a_stop_in_the_last_planned_epoch_is_none(tmp_path):
    values = rise_and_fall(5, 10)
    assert outcome(write_csv(tmp_path / "a", values, epochs=10, **PLAIN), ycb.EarlyStopping(patience=5)).reason == ""
    found = outcome(write_csv(tmp_path / "b", values, epochs=11, **PLAIN), ycb.EarlyStopping(patience=5))
    assert (found.stop_epoch, found.saved) == (10, 0)


def test_without_times_there_are_no_hours(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 15), seconds=None, **PLAIN)
    assert outcome(folder, ycb.EarlyStopping(patience=5)).hours_saved is None


def test_shares_are_of_the_planned_epochs(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 60), epochs=100, **PLAIN)
    assert outcome(folder, ycb.EarlyStopping(patience=0.2)).stop_epoch == 25


def test_warm_up_and_closed_mosaic_are_known(tmp_path):
    folder = write_csv(tmp_path / "a", rise_and_fall(1, 30), epochs=30, warmup_epochs=4, close_mosaic=0)
    assert outcome(folder, ycb.EarlyStopping(patience=3)).stop_epoch == 7
    folder = write_csv(tmp_path / "b", rise_and_fall(15, 30), epochs=30, warmup_epochs=4, close_mosaic=12)
    assert outcome(folder, ycb.EarlyStopping(patience=4)).stop_epoch is None


def test_the_trainers_own_patience(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 30), epochs=30, patience=7, **PLAIN)
    assert outcome(folder, ycb.EarlyStopping(patience=None)).stop_epoch == 12


def test_nan_stops(tmp_path):
    found = outcome(write_csv(tmp_path, [0.1, 0.2, math.nan, 0.4]), ycb.EarlyStopping())
    assert (found.stop_epoch, found.reason) == (3, "not_finite")
    assert found.lost == pytest.approx(0.2)


def test_oracles_know_the_whole_run(tmp_path):
    folder = write_csv(tmp_path, [0.1, 0.3, 0.496, 0.5, 0.5, 0.4, 0.3, 0.2])
    best = outcome(folder, ycb.EarlyStopping(), rule="oracle: best")
    near = outcome(folder, ycb.EarlyStopping(), rule="oracle: -0.005")
    assert (best.stop_epoch, best.saved, best.lost) == (4, 0.5, 0)
    assert (near.stop_epoch, near.saved, near.lost) == (3, 0.625, pytest.approx(0.004))


@given(
    st.lists(st.one_of(st.floats(0.01, 1), st.just(math.nan)), min_size=1, max_size=40),
    st.integers(1, 10),
)
def test_no_rule_saves_more_than_an_oracle_that_loses_no_more(tmp_path_factory, values, patience):
    folder = write_csv(tmp_path_factory.mktemp("run"), values, **PLAIN)
    report = ycb.replay(folder, {"rule": ycb.EarlyStopping(patience=patience, check_finite=False)})
    rule, best, near = report.outcomes
    assert all(0 <= item.saved < 1 and item.lost >= 0 for item in report.outcomes)
    assert best.lost == 0
    assert near.lost <= 0.005 + 1e-9
    assert near.saved >= best.saved
    assert rule.saved <= best.saved or rule.lost > 0


@pytest.mark.parametrize("names", [1, 2, 3])
def test_rules_do_not_disturb_each_other(tmp_path, names):
    values = [0.5 + 0.1 * math.sin(epoch / 3) for epoch in range(80)]
    folder = write_csv(tmp_path, values, epochs=80)
    rules = {
        "a": [ycb.EarlyStopping(patience=4)],
        "b": [ycb.ReduceLROnPlateau(patience=3, min_lr="final"), ycb.EarlyStopping(patience=30)],
        "c": [ycb.ReduceLROnPlateau(patience=3, factor=0.5), ycb.FreezeBackbone(3)],
    }
    together = ycb.replay(folder, dict(list(rules.items())[::-1]))
    for name in list(rules)[:names]:
        (alone,) = ycb.replay(folder, {name: rules[name]}).of(name)
        assert together.of(name) == [alone]


def test_what_would_have_changed_the_curve_is_named_and_not_followed(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20), epochs=20, **PLAIN)
    reduce = ycb.ReduceLROnPlateau(patience=4, factor=0.5)
    found = outcome(folder, ycb.FreezeBackbone(3), reduce, ycb.EarlyStopping(patience=12), ycb.CSVLogger())
    assert [(c.decision.kind, c.decision.epoch) for c in found.changes] == [
        ("set_frozen", 0),
        ("set_frozen", 3),
        ("set_learning_rate", 9),
        ("set_learning_rate", 13),
    ]
    assert found.stop_epoch == 17
    assert found.altered
    assert {change.in_the_run for change in found.changes} == {False}


def test_a_checkpoint_changes_nothing(tmp_path):
    found = outcome(write_csv(tmp_path, rise_and_fall(5, 20)), ycb.ModelCheckpoint(save_last=True))
    assert (found.changes, found.altered) == ((), False)


def test_a_finish_is_known_by_its_end_but_not_by_what_it_leads_to(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 50), epochs=50, **PLAIN)
    found = outcome(folder, ycb.EarlyStopping(patience=5, on_plateau="finish", finish_epochs=10))
    assert (found.stop_epoch, found.reason, found.saved, found.lost) == (20, "finish", 0.6, None)
    assert [(change.decision.kind, change.decision.epoch) for change in found.changes] == [("finish", 10)]


def test_a_rule_at_the_floor_of_the_rate_reduces_no_more(tmp_path):
    """It sees what its own reductions have made of the rate, though the log has none of them."""
    lines = [f"{epoch},0.5,1,0.001\n" for epoch in range(1, 41)]
    (tmp_path / "results.csv").write_text("epoch,metrics/mAP50-95(B),val/loss,lr/pg0\n" + "".join(lines))
    (tmp_path / "args.yaml").write_text("epochs: 40\nlrf: 1.0\nwarmup_epochs: 0\nclose_mosaic: 0\n")
    found = outcome(tmp_path, ycb.ReduceLROnPlateau(patience=2, factor=0.5, min_lr=0.0002))
    assert [change.decision.epoch for change in found.changes] == [3, 5, 7]


def test_a_function_may_ask_for_the_rate_of_each_epoch(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(3, 6), epochs=6, **PLAIN)
    found = outcome(folder, ycb.LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch == 3 else lr))
    assert [(c.decision.epoch, c.decision.factor) for c in found.changes] == [(3, 0.5)]


def test_what_the_run_has_done_itself_is_no_change(tmp_path):
    callbacks = {"ReduceLROnPlateau": ycb.ReduceLROnPlateau(patience=3, factor=0.5)}
    ledger = write_journal(tmp_path, rise_and_fall(5, 12), callbacks)
    assert ledger.decisions
    found = outcome(tmp_path, ycb.ReduceLROnPlateau(patience=3, factor=0.5))
    assert [change.in_the_run for change in found.changes] == [True] * len(ledger.decisions)
    assert not found.altered
    assert outcome(tmp_path, ycb.ReduceLROnPlateau(patience=4, factor=0.5)).altered


@pytest.mark.parametrize("verbose", [0, 1])
def test_what_the_run_has_done_without_a_word_is_no_change_either(verbose, tmp_path):
    """Earlier versions have noted in the journal that a decision was not logged."""
    write_journal(tmp_path, rise_and_fall(5, 12), {"LearningRateScheduler": ycb.LearningRateScheduler(slower)})
    journal = tmp_path / "callbacks" / "journal.jsonl"
    text = journal.read_text()
    assert '"announce": true' in text
    journal.write_text(text.replace('"announce": true', '"announce": false'))
    found = outcome(tmp_path, ycb.LearningRateScheduler(slower, verbose=verbose))
    assert found.changes
    assert not found.altered


def test_a_metric_that_a_run_has_not_is_no_reason_to_give_up_the_others(tmp_path):
    write_csv(tmp_path / "boxes", rise_and_fall(5, 20))
    write_csv(tmp_path / "top1", rise_and_fall(5, 20), key="metrics/accuracy_top1")
    rules = {
        "box": ycb.EarlyStopping(monitor="mAP50-95", patience=4),
        "class": ycb.EarlyStopping(monitor="mAP50-95/person", patience=4),
        "any": ycb.EarlyStopping(patience=4),
    }
    report = ycb.replay(tmp_path, rules)
    assert [item.run for item in report.of("box")] == ["boxes"]
    assert report.of("class") == []
    assert [item.run for item in report.of("any")] == ["boxes", "top1"]
    assert sorted((item.path, item.rule) for item in report.skipped) == [
        ("boxes", "class"),
        ("top1", "box"),
        ("top1", "class"),
    ]
    assert "'mAP50-95/person' is not a metric of this run" in report.skipped[0].reason


def test_a_function_may_look_at_the_metrics(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20), **PLAIN)
    assert outcome(folder, ycb.EarlyStopping(lambda m: m["mAP50-95"], patience=4, mode="max")).stop_epoch == 9
    with pytest.raises(ValueError, match=r"nothing could be replayed: .*'recall' is not a metric of this run"):
        ycb.replay(folder, [ycb.EarlyStopping(lambda m: m["recall"], patience=4, mode="max")])


def test_a_schedule_is_replayed_with_what_it_would_have_seen(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(7, 20), epochs=20, **PLAIN)
    found = outcome(folder, ycb.ValidationSchedule(5, 1))  # validates 1, 5, 10, 15 and 20
    assert (found.stop_epoch, found.epochs_saved, found.validations_skipped, found.validations_saved) == (
        None,
        0,
        15,
        0.75,
    )
    assert found.lost == pytest.approx(0.02)  # 7 is the best epoch, 5 the best that was validated
    together = outcome(folder, ycb.ValidationSchedule(5, 1), ycb.EarlyStopping(patience=6))
    assert (together.stop_epoch, together.validations_skipped, together.lost) == (11, 7, pytest.approx(0.02))


def test_rules_without_a_schedule_see_every_epoch_beside_one_with_it(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(7, 20), epochs=20, **PLAIN)
    rules = {"schedule": [ycb.ValidationSchedule(5, 1)], "patience": [ycb.EarlyStopping(patience=6)]}
    report = ycb.replay(folder, rules)
    (found,) = report.of("patience")
    assert (found.stop_epoch, found.validations_skipped, found.lost) == (13, 0, 0)
    assert "no val" in str(report)
    assert report.summary["validations_saved_mean"].tolist()[:2] == [0.75, 0.35]
