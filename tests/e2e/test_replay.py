"""Replay equals live: what a replay says of a real training is what was decided in it."""

from dataclasses import replace

import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks.replaying.logged_run import read_run
from yolo_callbacks.replaying.search import find_logs
from yolo_callbacks.run_dir.journal import read_journal


def line_up():
    """Return callbacks whose decisions all depend on what was measured, on the rates, or on the plan."""
    return [
        ycb.EarlyStopping(monitor="fitness", patience=4),
        ycb.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_delta=100.0, min_lr=0.002),
        ycb.LearningRateScheduler(lambda epoch, lr: lr * 0.9 if epoch < 3 else lr),
        ycb.FreezeBackbone(2, lr_factor=0.5, lr_ramp_epochs=2),
        ycb.ModelCheckpoint(save_last=True),
        ycb.CSVLogger(),
    ]


def run_with(callbacks, shapes, folder, **arguments):
    model = YOLO(TINY_MODEL, verbose=False)
    attachment = ycb.attach(model, callbacks)
    settings = {"data": str(shapes), "project": str(folder), "name": "run", "optimizer": "SGD", "lr0": 0.01}
    model.train(**{**TINY, **settings, **arguments})
    return attachment.save_dir


@pytest.fixture(scope="module")
def stopped(shapes, tmp_path_factory):
    """A run that its callbacks have slowed down and stopped."""
    return run_with(line_up(), shapes, tmp_path_factory.mktemp("stopped"), epochs=12, warmup_epochs=1, close_mosaic=2)


@pytest.fixture(scope="module")
def left_alone(shapes, tmp_path_factory):
    """A run whose callbacks have changed nothing."""
    arguments = {"epochs": 6, "warmup_epochs": 2, "close_mosaic": 2, "cos_lr": True, "lrf": 0.1, "patience": 5}
    return run_with([ycb.CSVLogger()], shapes, tmp_path_factory.mktemp("left alone"), **arguments)


def decisions(run):
    kinds = (ycb.Stop, ycb.SaveCheckpoint)
    journal = read_journal(run / "callbacks" / "journal.jsonl")
    return [decision for decision in journal.decisions if not isinstance(decision, kinds)]


def test_from_the_journal_every_decision_is_the_one_that_was_made(stopped):
    (outcome,) = ycb.replay(stopped, line_up()).of("callbacks")
    live = decisions(stopped)
    assert {decision.kind for decision in live} == {"set_learning_rate", "set_frozen"}
    assert [change.decision for change in outcome.changes] == live
    assert all(change.in_the_run for change in outcome.changes)
    assert not outcome.altered
    (stop,) = (d for d in read_journal(stopped / "callbacks" / "journal.jsonl").decisions if isinstance(d, ycb.Stop))
    assert (outcome.stop_epoch, outcome.message, outcome.reason) == (stop.epoch, stop.message, stop.reason)
    assert (outcome.epochs, outcome.planned_epochs) == (stop.epoch, 12)
    assert (outcome.saved, outcome.lost) == (0, 0)


def test_the_rates_fall_to_their_floor_in_it(stopped):
    """Without a floor that was reached, the test above would not see whose factors a replay goes by."""
    reductions = [d.epoch for d in decisions(stopped) if d.source == "ReduceLROnPlateau"]
    assert 0 < len(reductions) < len(read_journal(stopped / "callbacks" / "journal.jsonl").entries) - 1


def test_from_results_csv_alone_it_stops_in_the_same_epoch(stopped):
    (live,) = ycb.replay(stopped, line_up()).of("callbacks")
    (outcome,) = ycb.replay(stopped / "results.csv", line_up()).of("callbacks")
    assert outcome.source == "results.csv"
    assert (outcome.stop_epoch, outcome.reason) == (live.stop_epoch, live.reason)
    frozen = [[c.decision.epoch for c in item.changes if c.decision.kind == "set_frozen"] for item in (live, outcome)]
    assert frozen[0] == frozen[1] != []


def test_results_csv_and_args_yaml_give_the_plan_and_the_records_of_the_journal(left_alone):
    (whole,), _ = find_logs(left_alone)
    journal, csv = read_run(whole), read_run(replace(whole, journal=None))
    assert (journal.source, csv.source) == ("journal.jsonl", "results.csv")
    for name in ("planned_epochs", "trainer_patience", "warmup_epochs", "close_mosaic", "base_lr", "final_lr"):
        assert getattr(csv.plan, name) == pytest.approx(getattr(journal.plan, name), rel=1e-4), name
    assert (csv.plan.close_mosaic, csv.plan.warmup_epochs) == (2, 2)
    assert len(csv.records) == len(journal.records) == 6
    for ours, theirs in zip(csv.records, journal.records):
        assert (ours.epoch, ours.validated, ours.last) == (theirs.epoch, theirs.validated, theirs.last)
        assert (ours.planned_epochs, ours.lr_factor) == (theirs.planned_epochs, theirs.lr_factor)
        assert ours.base_lr == pytest.approx(theirs.base_lr, rel=1e-4)
        assert ours.next_base_lr == (pytest.approx(theirs.next_base_lr, rel=1e-4) if not ours.last else None)
        assert ours.metrics == pytest.approx({name: theirs.metrics[name] for name in ours.metrics}, rel=1e-4, abs=1e-6)
        assert set(theirs.metrics) == set(ours.metrics)
    assert csv.scores == pytest.approx(journal.scores, abs=1e-6)


def test_the_same_decisions_come_of_both(left_alone):
    rules = {
        "loss": [ycb.EarlyStopping(monitor="val_loss", patience=1, min_delta=50.0, start_from_epoch=1)],
        "reduce": [ycb.ReduceLROnPlateau(monitor="val_loss", patience=1, min_delta=100.0, factor=0.5, min_lr="final")],
        "schedule": [ycb.LearningRateScheduler(lambda epoch, lr: lr * (0.5 if epoch == 2 else 1.0))],
    }
    journal, csv = ycb.replay(left_alone, rules), ycb.replay(left_alone / "results.csv", rules)
    for rule in rules:
        (ours,), (theirs,) = csv.of(rule), journal.of(rule)
        assert ours.stop_epoch == theirs.stop_epoch
        assert [c.decision.epoch for c in ours.changes] == [c.decision.epoch for c in theirs.changes]
        assert ours.stop_epoch or ours.changes
        for mine, his in zip(ours.changes, theirs.changes):
            assert mine.decision.factor == pytest.approx(his.decision.factor, rel=1e-4)
