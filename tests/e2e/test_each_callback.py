"""Each callback alone on the real trainer."""

import json
import time

import cloudpickle
import pandas as pd
import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import load_checkpoint

import yolo_callbacks as ycb
from tests.helpers import attachment_of, run_json
from yolo_callbacks import (
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    PlotLogger,
    ReduceLROnPlateau,
    StopReason,
)
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.support import storage


def test_early_stopping_stops_on_all_zero_fitness(train):
    run = train([EarlyStopping(patience=2)], epochs=10)
    assert run.history.index[-1] == 3
    assert run.stop_reason is StopReason.PLATEAU
    assert run.stop_message == "stop, no improvement in fitness for 2 epochs (still 0)"
    assert run_json(run.save_dir)["stop"] == {"reason": "plateau", "message": run.stop_message, "epoch": 3}
    assert run_json(run.save_dir)["status"] == "stopped"
    assert len(pd.read_csv(run.save_dir / "results.csv")) == 3


def test_early_stopping_without_saving_leaves_a_model(train):
    run = train([EarlyStopping(patience=1)], epochs=10, save=False)
    assert run.history.index[-1] == 2
    assert (run.save_dir / "weights" / "last.pt").exists()  # plain Ultralytics fails here: no checkpoint was saved


def test_restore_best_weights(train, caplog):
    """The model that is left is the one of the monitor's best epoch; best.pt is Ultralytics' own choice."""
    rule = EarlyStopping(monitor="lr/pg0", mode="min", patience=50, restore_best_weights=True)
    run = train([rule], epochs=5, warmup_epochs=3)
    why = "EarlyStopping: patience=50 cannot run out: at most 1 of the 5 epochs counts"
    assert sum(line.getMessage().startswith(why) for line in caplog.records) == 1
    best = int(run.history["lr/pg0"].idxmin())
    assert best == 1  # the warm-up begins at 0, and fitness ties make best.pt the last epoch's
    restored = run.save_dir / "weights" / "restore-lr-pg0.pt"
    assert train.model.overrides["model"] == str(restored)
    left = train.model.model.state_dict()
    stored = load_checkpoint(restored)[0].state_dict()
    other = load_checkpoint(run.save_dir / "weights" / "best.pt")[0].state_dict()
    assert all(torch.equal(left[key], stored[key]) for key in left)
    assert any(not torch.equal(stored[key], other[key]) for key in stored)
    (listed,) = run_json(run.save_dir)["checkpoints"]
    assert (listed["role"], listed["epoch"]) == ("restore", 1)


def test_model_checkpoint_keeps_the_epoch_that_was_validated(train):
    """The kept file holds the EMA weights of its own epoch, not of a later one."""
    weights = {}

    def remember(model):
        model.add_callback(
            "on_fit_epoch_end",
            lambda t: weights.setdefault(
                t.epoch + 1, {k: v.clone() for k, v in t.ema.ema.half().float().state_dict().items()}
            ),
        )

    run = train([ModelCheckpoint("e{epoch}", save_best_only=False)], before=remember, epochs=3)
    for epoch in (1, 2, 3):
        checkpoint = torch.load(run.save_dir / "weights" / f"e{epoch}.pt", weights_only=False)
        assert checkpoint["epoch"] == epoch - 1
        kept = checkpoint["ema"].float().state_dict()
        assert all(
            torch.equal(kept[k], weights[epoch][k].half().float() if kept[k].is_floating_point() else weights[epoch][k])
            for k in kept
        )


def test_model_checkpoint_of_every_kind(train):
    run = train(
        [ModelCheckpoint("{epoch:03d}-{mAP50-95:.4f}", save_top_k=2, every_n_epochs=2, save_last=True)], epochs=4
    )
    names = sorted(path.name for path in (run.save_dir / "weights").iterdir())
    assert names == [
        "001-0.0000.pt",
        "002-0.0000.pt",
        "best.pt",
        "epoch-0002.pt",
        "epoch-0004.pt",
        "last.pt",
        "latest.pt",
    ]
    assert {item["role"] for item in run_json(run.save_dir)["checkpoints"]} == {"best", "periodic", "latest"}


def test_model_checkpoint_without_saving_by_the_trainer(train):
    run = train([ModelCheckpoint("e{epoch}", save_best_only=False)], epochs=3, save=False)
    assert (run.save_dir / "weights" / "e1.pt").exists()
    assert YOLO(run.save_dir / "weights" / "e1.pt").ckpt["epoch"] == 0


def test_the_trainers_state_is_serialized_once_an_epoch_at_most(train):
    calls = []

    def count(model):
        def watch(trainer):
            whole = trainer.save_model
            trainer.save_model = lambda: (calls.append(trainer.epoch), whole())[1]

        model.add_callback("on_train_start", watch)

    checkpoint = ModelCheckpoint("e{epoch}", save_best_only=False, every_n_epochs=1, save_last=True)
    train([checkpoint, EarlyStopping(restore_best_weights=True)], before=count, epochs=3, save=False)
    assert calls == [0, 1, 2]


def test_a_stop_that_comes_after_us_does_not_spoil_the_copy(train, monkeypatch):
    """The trainer strips last.pt in place as soon as it has stopped: the copy must be done by then."""
    whole = storage.copy

    def slow(*arguments):
        time.sleep(1.0)
        return whole(*arguments)

    def stop(trainer):
        trainer.stop = True

    monkeypatch.setattr(storage, "copy", slow)
    run = train([ModelCheckpoint("kept")], before=lambda m: m.add_callback("on_fit_epoch_end", stop), epochs=5)
    assert YOLO(run.save_dir / "weights" / "kept.pt").ckpt["epoch"] == 0


def test_a_disk_that_fails_is_told_and_training_goes_on(train, said, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "copy", full)
    run = train([ModelCheckpoint("kept", export="torchscript")], epochs=2)
    assert len(run.history) == 2
    consequence = "the previous file is kept; training continues"
    assert f"kept.pt cannot be written, {consequence}: [Errno 28] No space" in said.warnings[0]
    assert "error" in run_json(run.save_dir)["exports"][0]


def test_a_mistake_while_storing_is_raised(train, monkeypatch):
    def wrong(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(storage, "copy", wrong)
    with pytest.raises(ZeroDivisionError):
        train([ModelCheckpoint("kept")], epochs=3)


def test_weights_only_are_small_and_finished(train):
    run = train([ModelCheckpoint(save_weights_only=True), ModelCheckpoint("full")], epochs=2)
    slim, full = (run.save_dir / "weights" / name for name in ("best-fitness.pt", "full.pt"))
    assert slim.stat().st_size < 0.5 * full.stat().st_size
    assert YOLO(slim).ckpt["optimizer"] is None


def test_an_absolute_path_is_taken_as_it_is(train, tmp_path):
    run = train([ModelCheckpoint(str(tmp_path / "keep" / "mine.pt"))], epochs=2)
    assert (tmp_path / "keep" / "mine.pt").exists()
    assert run_json(run.save_dir)["checkpoints"][0]["file"] == str(tmp_path / "keep" / "mine.pt")


def test_save_on_exception(train, tmp_path):
    def fail_in_epoch_3(trainer):
        if trainer.epoch == 2:
            raise RuntimeError("the machine is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        train(
            [ModelCheckpoint(save_on_exception=True), CSVLogger()],
            before=lambda model: model.add_callback("on_train_batch_end", fail_in_epoch_3),
            epochs=4,
        )
    weights = tmp_path / "run" / "weights"
    assert YOLO(weights / "exception.pt").ckpt["epoch"] == 1  # resuming it repeats the third epoch
    data = json.loads((tmp_path / "run" / "callbacks" / "run.json").read_text())
    assert (data["status"], data["error"]) == ("failed", "RuntimeError: the machine is on fire")
    assert len(pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")) == 2


def test_export_of_the_best(train):
    run = train([ModelCheckpoint(export="torchscript")], epochs=2)
    assert (run.save_dir / "export" / "best-fitness.torchscript").exists()
    assert sorted(p.name for p in (run.save_dir / "export").iterdir()) == ["best-fitness.torchscript", "report.json"]
    (item,) = run_json(run.save_dir)["exports"]
    assert (item["format"], item["file"], item["passed"]) == ("torchscript", "best-fitness.torchscript", True)
    assert len(item["sha256"]) == 64


def test_export_to_onnx_gives_a_file_that_runs(train):
    import numpy as np
    import onnxruntime

    run = train([ModelCheckpoint(export="onnx", export_args={"imgsz": 96})], epochs=2)
    session = onnxruntime.InferenceSession(str(run.save_dir / "export" / "best-fitness.onnx"))
    (given,) = session.get_inputs()
    assert given.shape == [1, 3, 96, 96]
    (result,) = session.run(None, {given.name: np.zeros((1, 3, 96, 96), np.float32)})
    assert np.isfinite(result).all()


def test_plot_logger_draws_while_training_goes_on(train):
    drawn = []

    def look(trainer):
        picture = trainer.save_dir / "callbacks" / "curves.png"
        deadline = time.monotonic() + 20
        while trainer.epoch == 1 and not picture.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        drawn.append(picture.exists())

    train(
        [PlotLogger(refresh_seconds=0)], before=lambda model: model.add_callback("on_train_epoch_start", look), epochs=3
    )
    assert drawn == [False, True, True]


def test_a_failing_reporter_is_told_once_and_harms_nothing(train, said):
    def fail(*_):
        raise ConnectionError("server is away")

    class Broken(ycb.Callback):
        setup = counters = close = deliver = fail

        def measure(self, session):
            return {"custom/energy": "much"}

        def act(self, session):
            raise ycb.UnknownMetricError("no recal")

    try:
        raise LookupError("somewhere else")
    except LookupError:  # a training within is none that has failed
        run = train([Broken(), CSVLogger()], epochs=3)
    away = "ConnectionError: server is away"
    assert said.warnings == [
        f"Broken.{step} failed; training continues: {why}"
        for step, why in [
            ("setup", away),
            ("measure", "TypeError: Broken.measure()['custom/energy'] is 'much', but it must be a number, not str"),
            ("counters", away),
            ("act", "UnknownMetricError: no recal"),
            ("close", away),
            ("deliver", away),
        ]
    ]
    assert len(run.history) == 3
    assert len(pd.read_csv(run.save_dir / "callbacks" / "epochs.csv")) == 3
    assert manifest_of(run.save_dir)["status"] == "finished"


@pytest.mark.parametrize("where", ["close", "on_train_end"])
def test_run_json_tells_of_an_error_that_comes_at_the_end(train, where, tmp_path):
    told = []

    class Closes(ycb.Callback):
        priority = ycb.Priority.CHECKPOINT

        def close(self, session, error):
            fail("close")

    class Delivers(ycb.Callback):
        def deliver(self, session, error):
            told.append((manifest_of(session.run.save_dir)["status"], error))

    def fail(here="on_train_end"):
        if here == where:
            raise RuntimeError(f"it broke in {where}")

    with pytest.raises(RuntimeError, match="it broke") as caught:
        train([Closes(), Delivers()], before=lambda m: m.add_callback("on_train_end", lambda _: fail()), epochs=1)
    noted = manifest_of(tmp_path / "run")
    assert (noted["status"], noted["error"]) == ("failed", f"RuntimeError: it broke in {where}")
    assert (noted["epochs"], noted["stop"]) == (1, None)
    assert told == [("failed", caught.value) if where == "close" else ("finished", None)]


def test_a_wrong_decision_raises(train):
    class Broken(ycb.Callback):
        priority = ycb.Priority.DECIDE

        def decide(self, history):
            return 1 / len(history)

    with pytest.raises(ZeroDivisionError):
        train([Broken()])


@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(monitor="top1"),
        ReduceLROnPlateau(monitor="metrics/mAP50-95(M)"),
        ModelCheckpoint(monitor="val/bx_loss"),
        ModelCheckpoint("{epoch}-{train/box_los:.2f}", save_top_k=2),
    ],
    ids=["short", "other head", "loss", "template"],
)
def test_an_unknown_metric_fails_before_the_first_epoch(train, callback, tmp_path):
    started = []
    with pytest.raises(ycb.UnknownMetricError, match="is not a metric of this run"):
        train([callback], before=lambda m: m.add_callback("on_train_epoch_start", lambda t: started.append(1)))
    assert started == []


def test_learning_rate_scheduler_error_fails_before_the_first_epoch(train):
    started = []
    with pytest.raises(TypeError, match="must return a number"):
        train(
            [LearningRateScheduler(lambda epoch, lr: None)],
            before=lambda m: m.add_callback("on_train_epoch_start", lambda t: started.append(1)),
        )
    assert started == []


def test_an_attachment_travels_by_cloudpickle(train):
    """Also in the middle of a run, without what belongs to the run: hooks, threads, open files."""
    early_stopping = EarlyStopping(monitor=lambda m: m["recall"], mode="max")
    live = [ycb.GradientMonitor(), ycb.ActivationMonitor(), ycb.PreemptionHandler(), ycb.TensorBoard()]
    pickles = []

    def keep(model):
        model.add_callback(
            "on_train_epoch_end", lambda trainer: pickles.append(cloudpickle.dumps(attachment_of(model)))
        )

    train([early_stopping, CSVLogger(), PlotLogger(), ModelCheckpoint(), *live], before=keep, epochs=1)
    (during,) = map(cloudpickle.loads, pickles)
    assert [type(item) for item in during.callbacks] == [type(item) for item in attachment_of(train.model).callbacks]
    train.model.callbacks["on_train_epoch_end"].pop()  # it holds the model, and with it the trainer
    hooks = {event: functions for event, functions in train.model.callbacks.items() if functions}
    copies = cloudpickle.loads(cloudpickle.dumps(hooks))
    assert set(copies) == set(hooks)
