"""Several trainings of one model, and an interrupted one that goes on."""

import pandas as pd
import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, Crash, attachment_of, crash_in
from yolo_callbacks import CSVLogger, EarlyStopping, LearningRateScheduler, ModelCheckpoint, StopReason


def test_each_training_starts_afresh(train, tmp_path):
    model = YOLO(TINY_MODEL, verbose=False)
    run = train([EarlyStopping(monitor=lambda m: 1.0, mode="max", patience=2), CSVLogger()], model=model, epochs=8)
    first = run.save_dir
    assert len(run.history) == 3
    model.train(
        data=model.trainer.args.data,
        epochs=8,
        **TINY,
        project=str(tmp_path),
        name="second",
    )
    assert run.save_dir == tmp_path / "second" != first
    assert len(run.history) == 3  # not 1, as it would be had the wait gone on
    for folder in (first, run.save_dir):
        assert len(pd.read_csv(folder / "callbacks" / "epochs.csv")) == 3


def test_an_old_run_directory_is_not_mixed_up_with_the_new_run(train):
    train([CSVLogger()], epochs=3)
    run = train([CSVLogger()], epochs=2, exist_ok=True)
    assert len(pd.read_csv(run.save_dir / "callbacks" / "epochs.csv")) == 2
    assert (run.save_dir / "callbacks" / "journal.1.jsonl").exists()


def test_a_training_can_be_stopped_from_code(train):
    runs = []

    def stop_in_epoch_2(trainer):
        if trainer.epoch == 1:
            assert runs[0].stop("somebody needs the machine")

    def before(model):
        runs.append(attachment_of(model))
        model.add_callback("on_train_batch_end", stop_in_epoch_2)

    run = train([CSVLogger()], before=before, epochs=9)
    assert len(run.history) == 2
    assert run.stop_reason is StopReason.REQUESTED
    assert run.stop_message == "somebody needs the machine"


def test_a_stopped_training_goes_on_from_its_latest_checkpoint(train):
    def stop_in_epoch_2(trainer):
        trainer.stop = trainer.stop or trainer.epoch == 1

    kept = [ModelCheckpoint(save_last=True), CSVLogger()]
    run = train(kept, before=lambda m: m.add_callback("on_train_batch_end", stop_in_epoch_2), epochs=4)
    assert len(run.history) == 2
    model = YOLO(run.save_dir / "weights" / "latest.pt")
    resumed = ycb.attach(model, [ModelCheckpoint(save_last=True), CSVLogger()])
    model.train(resume=True)
    assert resumed.history.index.tolist() == [1, 2, 3, 4]
    assert resumed.stop_reason is None


def test_ultralytics_own_patience_is_told_apart(train, monkeypatch):
    monkeypatch.setattr("ultralytics.utils.torch_utils.EarlyStopping.__call__", lambda self, epoch, fitness: epoch >= 3)
    run = train([CSVLogger()], epochs=9, patience=2)
    assert len(run.history) == 3
    assert run.stop_reason is StopReason.TRAINER_PATIENCE


def test_a_foreign_stop_is_told_apart(train):
    def cancel(trainer):
        trainer.stop = trainer.stop or trainer.epoch == 1

    run = train([CSVLogger()], before=lambda m: m.add_callback("on_train_batch_end", cancel), epochs=9)
    assert len(run.history) == 2
    assert run.stop_reason is StopReason.EXTERNAL
    late = train([CSVLogger()], before=lambda m: m.add_callback("on_fit_epoch_end", cancel), epochs=9, name="late")
    assert late.stop_reason is StopReason.EXTERNAL


def callbacks():
    return [
        EarlyStopping(monitor=lambda m: 1.0, mode="max", patience=6),
        LearningRateScheduler(lambda epoch, lr: lr * 0.8),
        ModelCheckpoint("e{epoch}", monitor=lambda m: m["train_loss"], mode="min", save_top_k=2),
        CSVLogger(),
    ]


def test_a_resumed_run_decides_as_if_it_had_never_stopped(train, shapes, tmp_path):
    whole = train(callbacks(), epochs=12, name="whole", optimizer="AdamW", close_mosaic=0)

    with pytest.raises(Crash):
        train(
            callbacks(),
            before=lambda m: m.add_callback("on_train_epoch_start", crash_in(5)),
            epochs=12,
            name="cut",
            optimizer="AdamW",
            close_mosaic=0,
        )
    folder = tmp_path / "cut"
    model = YOLO(folder / "weights" / "last.pt")
    resumed = ycb.attach(model, callbacks())
    model.train(resume=True)
    assert resumed.save_dir == folder
    assert list(resumed.history.index) == list(whole.history.index) == list(range(1, 8))
    for column in ("lr/pg0", "lr_factor", "EarlyStopping/wait"):
        assert resumed.history[column].tolist() == whole.history[column].tolist(), column
    assert resumed.stop_reason is whole.stop_reason is StopReason.PLATEAU
    assert (resumed.history["elapsed"].diff().dropna() > 0).all()
    frame = pd.read_csv(folder / "callbacks" / "epochs.csv")
    assert frame["epoch"].tolist() == list(range(1, 8))
