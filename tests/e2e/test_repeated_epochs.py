"""Epochs that the trainer repeats, after NaN and after running out of memory, count once."""

import json
import math
import os
import signal
from collections import Counter

import pandas as pd
import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, attachment_of, constant, journal_records
from yolo_callbacks import (
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    PreemptionHandler,
    ReduceLROnPlateau,
    SetLearningRate,
    StopReason,
)

# nbs = batch makes one step a batch: NaN reaches every weight, the EMA and the optimizer before the epoch ends
LINEAR = {"optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 0, "epochs": 9, "batch": 2, "nbs": 2}
COSINE = {**LINEAR, "cos_lr": True, "warmup_epochs": 3}
STOPS_AFTER = 6
IN_WARM_UP = 2  # epochs of it that would have added to a wait


class Witness(ycb.Callback):
    """A reporter that notes which epochs it is told of."""

    def __init__(self):
        self.epochs = []

    def act(self, session):
        self.epochs.append(session.history.epoch)


def callbacks(witness=None):
    return [
        EarlyStopping(monitor=constant, mode="max", patience=STOPS_AFTER - 1),
        ReduceLROnPlateau(monitor=constant, mode="max", factor=0.5, patience=1, cooldown=2),
        LearningRateScheduler(lambda epoch, lr: lr * 0.8),
        ModelCheckpoint("e{epoch}", save_best_only=False),
        CSVLogger(),
        witness or Witness(),
    ]


def poison(epochs, passes=1):
    """Return a user's callback that makes the weights NaN before the second batch of these epochs, counted from 1."""
    left = dict.fromkeys(epochs, passes)

    def write_nan(trainer):
        epoch, in_the_middle = trainer.epoch + 1, trainer.tloss is not None
        if in_the_middle and left.get(epoch, 0):
            left[epoch] -= 1
            next(trainer.model.parameters()).data.fill_(math.nan)

    return lambda model: model.add_callback("on_train_batch_start", write_nan)


def exhaust_memory(times=1):
    """Return a user's callback that lets the first forward passes of the training fail as CUDA does."""
    hooks = []

    def fail(*_):
        hooks.pop().remove()
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def lie_in_wait(trainer):
        hooks.extend(trainer.model.register_forward_pre_hook(fail) for _ in range(times))

    return lambda model: model.add_callback("on_train_start", lie_in_wait)


def trace(model, passes):
    """Note (epoch, planned epochs, real rates) each time that the batches of an epoch are done."""

    def note(trainer):
        passes.append((trainer.epoch + 1, trainer.epochs, [g["lr"] for g in trainer.optimizer.param_groups]))

    model.add_callback("on_train_epoch_end", note)


def facts(run):
    """Return what must not depend on how often an epoch ran: rates, counters, events, decisions, checkpoints."""
    frame = run.history
    columns = [name for name in frame if name.startswith(("lr", "validated", "EarlyStopping", "ReduceLR", "event"))]
    weights = {path.name: torch.load(path, weights_only=False) for path in (run.save_dir / "weights").glob("e*.pt")}
    return {
        "frame": frame[columns].reset_index().to_dict("list"),
        "decisions": [d.to_json() for d in run.decisions],
        "checkpoints": {name: checkpoint["epoch"] + 1 for name, checkpoint in weights.items()},
        "stop": (run.stop_reason, run.stop_message),
    }


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory):
    """Return a function that gives the rates and facts of a run without accidents; each setting is trained once."""
    known = {}

    def run(arguments):
        key = tuple(sorted(arguments.items()))
        if key not in known:
            model, passes = YOLO(TINY_MODEL, verbose=False), []
            attachment = ycb.attach(model, callbacks())
            trace(model, passes)
            model.train(**{**TINY, **arguments}, data=str(shapes), project=str(tmp_path_factory.mktemp("plain")))
            known[key] = {epoch: rates for epoch, _, rates in passes}, facts(attachment)
            warm = IN_WARM_UP if arguments["warmup_epochs"] else 0
            assert len(attachment.history) == STOPS_AFTER + warm
        return known[key]

    return run


def check_rows(folder, epochs):
    numbers = list(range(1, epochs + 1))
    assert [record["epoch"] for record in journal_records(folder)] == numbers
    assert pd.read_csv(folder / "results.csv")["epoch"].tolist() == numbers
    assert pd.read_csv(folder / "callbacks" / "epochs.csv")["epoch"].tolist() == numbers


def check_run(run, passes, repeated, witness, expected):
    """Check a disturbed run against (rates, facts) of an undisturbed one."""
    plain, plain_facts = expected
    stops_after = max(plain)
    check_rows(run.save_dir, stops_after)
    assert witness.epochs == list(range(1, stops_after + 1))
    # at least so often: older versions leave NaN in the gradients, and may have to repeat the next epoch as well
    assert Counter([*range(1, stops_after + 1), *repeated]) <= Counter(epoch for epoch, _, _ in passes)
    assert [rates for _, _, rates in passes] == [pytest.approx(plain[epoch], rel=1e-12) for epoch, _, _ in passes]
    assert facts(run) == plain_facts
    assert run.history["elapsed"].is_monotonic_increasing
    for epoch in range(1, stops_after + 1):
        kept = torch.load(run.save_dir / "weights" / f"e{epoch}.pt", weights_only=False)["ema"]
        assert any(bool(v.any()) for v in kept.state_dict().values())  # Ultralytics writes 0 where NaN was
    assert json.loads((run.save_dir / "callbacks" / "run.json").read_text())["status"] == "stopped"


ACCIDENTS = {
    "once": (LINEAR, {3}, 1),
    "in two epochs": (LINEAR, {2, 5}, 1),
    "three times in one epoch": (LINEAR, {4}, 3),
    "in the epoch that is the last": (LINEAR, {STOPS_AFTER}, 1),
    "with a cosine, in warm-up and after it": (COSINE, {2, 4}, 1),
}


@pytest.mark.parametrize("name", ACCIDENTS)
def test_an_epoch_repeated_after_nan_counts_once(name, train, undisturbed):
    arguments, epochs, times = ACCIDENTS[name]
    passes, witness = [], Witness()

    def before(model):
        trace(model, passes)
        poison(epochs, times)(model)

    run = train(callbacks(witness), before=before, **arguments)
    check_run(run, passes, [epoch for epoch in epochs for _ in range(times)], witness, undisturbed(arguments))


@pytest.mark.parametrize("times", [1, 2])
def test_an_epoch_repeated_after_running_out_of_memory_counts_once(times, train, undisturbed):
    passes, witness, batches = [], Witness(), []

    def before(model):
        trace(model, passes)
        exhaust_memory(times)(model)
        model.add_callback("on_train_end", lambda t: batches.append(t.batch_size))

    run = train(callbacks(witness), before=before, **{**LINEAR, "batch": 4})
    assert batches == [4 >> times]
    # the epoch is given up in its first batch, so its end comes once
    check_run(run, passes, [], witness, undisturbed(LINEAR))


def test_out_of_memory_and_nan_in_one_run(train, undisturbed):
    passes, witness = [], Witness()

    def before(model):
        trace(model, passes)
        exhaust_memory()(model)
        poison({2, 4})(model)

    run = train(callbacks(witness), before=before, **{**LINEAR, "batch": 4})
    check_run(run, passes, [2, 4], witness, undisturbed(LINEAR))


def test_nan_in_a_run_with_a_time_limit(train):
    """The trainer builds its schedule anew after each epoch, from as many epochs as it then expects."""
    passes, witness = [], Witness()

    def before(model):
        trace(model, passes)
        poison({3, 4})(model)

    run = train(callbacks(witness), before=before, **LINEAR, time=1.0)
    check_rows(run.save_dir, STOPS_AFTER)
    assert witness.epochs == list(range(1, STOPS_AFTER + 1))
    assert [epoch for epoch, _, _ in passes] == [1, 2, 3, 3, 4, 4, 5, 6]
    reduced = [d.epoch for d in run.decisions if isinstance(d, SetLearningRate) and d.source == "ReduceLROnPlateau"]
    assert reduced == [2, 4]
    for epoch, planned, rates in passes:
        own = 0.002 * (0.01 + 0.99 * (1 - (epoch - 1) / planned))
        expected = own * 0.8**epoch * 0.5 ** sum(number < epoch for number in reduced)
        assert rates == pytest.approx([expected] * 3, rel=1e-9), f"epoch {epoch}"
    assert run.stop_reason is StopReason.PLATEAU


def test_a_stop_that_is_asked_for_in_a_spoilt_pass_comes_after_the_repeated_one(train):
    def before(model):
        run = attachment_of(model)
        poison({2})(model)
        model.add_callback("on_train_batch_start", lambda t: run.stop() if t.epoch == 1 and t.tloss is None else None)

    run = train([CSVLogger()], before=before, **LINEAR)
    check_rows(run.save_dir, 2)
    assert run.stop_reason is StopReason.REQUESTED
    assert math.isfinite(run.history["train/box_loss"].iloc[-1])


def check_failed(folder, error, epochs):
    """Check what a run that died of an exception has left."""
    check_rows(folder, epochs)
    described = json.loads((folder / "callbacks" / "run.json").read_text())
    assert (described["status"], described["error"]) == ("failed", f"RuntimeError: {error}")


def test_nan_that_persists_fails_the_run_and_it_can_go_on(train, undisturbed, tmp_path):
    error = "Training failed: NaN persisted for 4 epochs"
    with pytest.raises(RuntimeError, match=error):
        train(callbacks(), before=poison({4}, passes=4), **LINEAR)
    folder = tmp_path / "run"
    check_failed(folder, error, 3)
    plain, plain_facts = undisturbed(LINEAR)
    model, passes, witness = YOLO(folder / "weights" / "last.pt"), [], Witness()
    resumed = ycb.attach(model, callbacks(witness))
    trace(model, passes)
    model.train(resume=True)
    check_rows(folder, STOPS_AFTER)
    assert facts(resumed) == plain_facts
    assert witness.epochs == [4, 5, 6]
    assert {epoch: rates for epoch, _, rates in passes} == {
        epoch: pytest.approx(plain[epoch], rel=1e-12) for epoch in (4, 5, 6)
    }


def test_nan_without_a_checkpoint_fails_the_run_and_keeps_its_rows(train, tmp_path):
    error = "Loss NaN/Inf detected but no valid last.pt is available for recovery"
    with pytest.raises(RuntimeError, match=error):
        train(callbacks(), before=poison({3}), save=False, **LINEAR)
    check_failed(tmp_path / "run", error, 2)
    assert sorted(path.name for path in (tmp_path / "run" / "weights").iterdir()) == ["e1.pt", "e2.pt"]


def test_weights_that_are_nan_are_not_saved_on_an_exception(train, tmp_path):
    with pytest.raises(RuntimeError, match="NaN persisted"):
        train([ModelCheckpoint(save_on_exception=True)], before=poison({2}, passes=4), **LINEAR)
    # Ultralytics would write zeros in their place, and last.pt is the one to go on from
    assert not (tmp_path / "run" / "weights" / "exception.pt").exists()


def test_a_signal_in_a_spoilt_pass_saves_nothing_that_the_run_would_go_on_from(train, tmp_path):
    def terminate(trainer):
        if trainer.epoch == 2 and not trainer.loss.isfinite():
            os.kill(os.getpid(), signal.SIGTERM)

    def before(model):
        poison({3})(model)
        model.add_callback("on_train_batch_end", terminate)

    with pytest.raises(SystemExit):
        train([PreemptionHandler(), CSVLogger()], before=before, **LINEAR)
    check_rows(tmp_path / "run", 2)
    assert ycb.newest_checkpoint(tmp_path / "run").name == "last.pt"


def test_nan_in_the_first_epoch_stops_a_run_that_looks_at_a_loss(train):
    run = train([EarlyStopping("val_loss"), ReduceLROnPlateau("val_loss"), CSVLogger()], before=poison({1}), **LINEAR)
    check_rows(run.save_dir, 1)
    assert (run.stop_reason, run.stop_message) == (StopReason.NOT_FINITE, "stop, val_loss is nan")
    assert math.isnan(run.history.loc[1, "val/box_loss"])
    assert json.loads((run.save_dir / "callbacks" / "run.json").read_text())["stop"]["reason"] == "not_finite"


def test_nan_in_the_first_epoch_is_not_seen_in_the_fitness(train, tmp_path):
    """A model of NaN finds nothing: its fitness is 0. What follows is the trainer's affair, and is written down."""
    folder = tmp_path / "run"
    try:
        run = train([EarlyStopping("fitness", patience=2), CSVLogger()], before=poison({1}), **LINEAR)
    except RuntimeError as error:  # not every version gets over a last.pt whose optimizer is NaN
        check_failed(folder, str(error), 1)
    else:
        check_rows(folder, 3)
        assert run.stop_reason is StopReason.PLATEAU
    measured = [record["metrics"] for record in journal_records(folder)]
    assert {metrics["fitness"] for metrics in measured} == {0.0}
    assert measured[0]["train/box_loss"] == "nan"
