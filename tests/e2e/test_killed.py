"""Trainings that are killed at the worst moments, and go on."""

import shutil

import pandas as pd
import pytest
import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL, constant, crash_in, slower
from yolo_callbacks.cli.resume import find_run
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.run_dir.recovery import NoCheckpointError

PROGRAM = """
import os, sys
from tests.helpers import TINY_MODEL
from ultralytics import YOLO
import yolo_callbacks as ycb
from tests.e2e.test_killed import callbacks, ARGUMENTS
from yolo_callbacks.run_dir.journal import Journal

data, project, moment = sys.argv[1:]
model = YOLO(TINY_MODEL, verbose=False)
ycb.attach(model, callbacks())
if moment == "after the checkpoint":
    model.add_callback("on_model_save", lambda trainer: trainer.epoch == 3 and os._exit(9))
else:
    whole = Journal.append
    def append(self, entry, content):
        whole(self, entry, content)
        if entry.record.epoch == 4:
            os._exit(9)
    Journal.append = append
model.train(data=data, project=project, name="run", **ARGUMENTS)
"""
ARGUMENTS = {**TINY, "epochs": 7, "optimizer": "AdamW", "warmup_epochs": 0}


def callbacks():
    return [
        ycb.EarlyStopping(monitor=constant, mode="max", patience=5),
        ycb.ReduceLROnPlateau(monitor=constant, mode="max", patience=2, factor=0.5),
        ycb.LearningRateScheduler(slower),
        ycb.ModelCheckpoint("e{epoch}", save_best_only=False),
        ycb.CSVLogger(),
    ]


def crash_in_epoch(number):
    """Return a function that registers an interruption at the start of an epoch, counted from 1."""
    return lambda model: model.add_callback("on_train_epoch_start", crash_in(number, KeyboardInterrupt))


def resume(checkpoint):
    model = YOLO(checkpoint)
    run = ycb.attach(model, callbacks())
    model.train(resume=True)
    return run


@pytest.mark.parametrize("moment", ["after the checkpoint", "after the journal"])
def test_a_killed_run_goes_on(moment, shapes, tmp_path):
    assert programs.run(["-c", PROGRAM, shapes, tmp_path, moment]).returncode == 9
    folder = tmp_path / "run"
    known = [entry.record.epoch for entry in read_journal(folder / "callbacks" / "journal.jsonl").entries]
    assert known == ([1, 2, 3] if moment == "after the checkpoint" else [1, 2, 3, 4])
    assert not (folder / "weights" / "e4.pt").exists()

    run = resume(folder / "weights" / "last.pt")
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.stop_reason is ycb.StopReason.PLATEAU
    assert run.history["EarlyStopping/wait"].tolist() == [0, 1, 2, 3, 4, 5]
    halved = [1, 1, 1, 0.5, 0.5, 0.25]
    assert run.history["lr_factor"].tolist() == pytest.approx([0.8**e * halved[e - 1] for e in range(1, 7)])
    frame = pd.read_csv(folder / "callbacks" / "epochs.csv")
    assert frame["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert YOLO(folder / "weights" / "e4.pt").ckpt["epoch"] == 3  # decided, and lost with the process
    assert not list(folder.rglob("*.tmp"))


def test_without_a_journal_the_results_of_ultralytics_stand_in(tmp_path, train):
    with pytest.raises(KeyboardInterrupt):
        train(callbacks(), before=crash_in_epoch(4), **ARGUMENTS)
    folder = tmp_path / "run"
    shutil.rmtree(folder / "callbacks")
    run = resume(folder / "weights" / "last.pt")
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.history["EarlyStopping/wait"].tolist() == [0, 1, 2, 3, 4, 5]
    assert run.history["lr_factor"].tolist() == pytest.approx([0.8, 0.8**2, 0.8**3, 0.2048, 0.8**5 / 2, 0.8**6 / 4])


def test_a_run_resumed_from_an_older_checkpoint_says_what_it_leaves_behind(tmp_path, train, said):
    with pytest.raises(KeyboardInterrupt):
        train(callbacks(), before=crash_in_epoch(5), **ARGUMENTS)
    folder = tmp_path / "run"
    run = resume(folder / "weights" / "e2.pt")
    assert said("Kept checkpoints of epochs after 2, which now run again: weights/e3.pt")
    assert said("The journal of epochs after 2, which now run again, is kept as")
    old = read_journal(folder / "callbacks" / "journal.1.jsonl").entries
    assert [entry.record.epoch for entry in old] == [1, 2, 3, 4]
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_knows_the_epochs_where_every_log_is_gone(tmp_path, train):
    with pytest.raises(KeyboardInterrupt):
        train(callbacks(), before=crash_in_epoch(4), **ARGUMENTS)
    folder = tmp_path / "run"
    shutil.rmtree(folder / "callbacks")
    (folder / "results.csv").unlink()
    run = resume(folder / "weights" / "last.pt")
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.history["EarlyStopping/wait"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_run_that_was_started_without_us_is_resumed_with_us(shapes, tmp_path):
    model = YOLO(TINY_MODEL, verbose=False)
    crash_in_epoch(4)(model)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=str(shapes), project=str(tmp_path), name="run", **ARGUMENTS)
    run = resume(tmp_path / "run" / "weights" / "last.pt")
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.history["EarlyStopping/wait"].tolist() == [0, 1, 2, 3, 4, 5]
    assert run.history["lr/pg0"][:3].tolist() == pytest.approx([0.01, 0.01 * (1 - 0.99 / 7), 0.01 * (1 - 1.98 / 7)])
    assert run.history["fitness"].notna().all()


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (4, 5), (50, 7)])
def test_new_arguments_win_over_old_ones(patience, epochs, tmp_path, train):
    """With patience=2 the run should have stopped in epoch 3: it is over without another one."""
    with pytest.raises(KeyboardInterrupt):
        train([ycb.EarlyStopping(monitor=constant, mode="max", patience=9)], before=crash_in_epoch(5), **ARGUMENTS)
    model = YOLO(tmp_path / "run" / "weights" / "last.pt")
    run = ycb.attach(model, [ycb.EarlyStopping(monitor=constant, mode="max", patience=patience)])
    model.train(resume=True)
    assert run.history.index.tolist() == list(range(1, epochs + 1))
    assert run.stop_reason is (ycb.StopReason.PLATEAU if patience < 9 else None)
    assert YOLO(tmp_path / "run" / "weights" / "last.pt").ckpt["epoch"] == -1  # evaluated and stripped


def test_a_run_that_had_done_its_epochs_only_needs_its_end(tmp_path, train):
    def crash(validator):
        if not validator.training:
            raise KeyboardInterrupt

    kept = [ycb.BackupAndRestore(), ycb.ModelCheckpoint(export="torchscript"), ycb.CSVLogger()]
    with pytest.raises(KeyboardInterrupt):
        train(kept, before=lambda m: m.add_callback("on_val_start", crash), epochs=2)
    trained = []
    model = YOLO(ycb.newest_checkpoint(tmp_path / "run"))
    run = ycb.attach(model, kept)
    model.add_callback("on_train_batch_end", lambda trainer: trained.append(1))
    results = model.train(resume=True)
    assert not trained
    assert run.history.index.tolist() == [1, 2]
    assert (run.stop_reason, results is not None) == (None, True)
    assert (tmp_path / "run" / "export" / "best-fitness.torchscript").exists()
    assert sorted(p.name for p in (tmp_path / "run" / "weights").iterdir()) == ["best-fitness.pt", "best.pt", "last.pt"]


def killed_in(event, number, train, **arguments):
    """Interrupt a run at an event of an epoch, counted from 1."""

    def crash(trainer):
        if trainer.epoch == number - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([ycb.BackupAndRestore(), ycb.CSVLogger()], before=lambda m: m.add_callback(event, crash), **arguments)


def test_a_new_run_in_an_old_folder_is_not_resumed_from_the_old_ones_copy(train, tmp_path):
    killed_in("on_train_epoch_start", 6, train, **ARGUMENTS)
    run = tmp_path / "run"
    (run / "weights" / "backup.pt").rename(run / "weights" / "preempted.pt")
    (run / "weights" / "kept").mkdir()
    shutil.copy(run / "weights" / "last.pt", run / "weights" / "kept" / "5.pt")
    killed_in("on_train_epoch_start", 1, train, exist_ok=True, **{**ARGUMENTS, "epochs": 9})
    with pytest.raises(NoCheckpointError, match="there is none") as caught:
        ycb.newest_checkpoint(run)
    assert caught.value.untouched
    assert find_run(run).arguments["epochs"] == 9
    for name in ("last.pt", "best.pt", "kept/5.pt"):
        assert YOLO(shutil.copy(run / "weights" / f"{name}.old", tmp_path / "old.pt")).ckpt["epoch"] == 4
    killed_in("on_train_epoch_start", 3, train, exist_ok=True, **ARGUMENTS)
    checkpoint = ycb.newest_checkpoint(run)
    assert (checkpoint.name, YOLO(checkpoint).ckpt["epoch"]) == ("last.pt", 1)
    assert (run / "weights" / "preempted.pt.old").exists()


def test_a_run_that_was_taken_back_is_not_resumed_from_what_it_left_behind(train, tmp_path):
    killed_in("on_train_epoch_start", 6, train, save_period=1, **ARGUMENTS)
    run = tmp_path / "run"
    model = YOLO(run / "weights" / "epoch1.pt")
    ycb.attach(model, [ycb.BackupAndRestore(), ycb.CSVLogger()])
    crash_in_epoch(3)(model)
    with pytest.raises(KeyboardInterrupt):
        model.train(resume=True)
    assert YOLO(ycb.newest_checkpoint(run)).ckpt["epoch"] == 1


class SavesByItself(DetectionTrainer):
    """A trainer of a user's own, which writes where `last` says without asking it to."""

    def save_model(self):
        content = {"epoch": self.epoch, "ema": self.ema.ema, "model": None, "optimizer": self.optimizer.state_dict()}
        torch.save({**content, "train_args": vars(self.args), "updates": 1}, self.last)
        shutil.copy(self.last, self.best)
        return True


def test_a_trainer_that_overrides_how_it_saves(train, tmp_path):
    callbacks = [ycb.BackupAndRestore(), ycb.ModelCheckpoint("{epoch}", save_best_only=False), ycb.CSVLogger()]
    run = train(callbacks, trainer=SavesByItself, epochs=3)
    assert run.history.index.tolist() == [1, 2, 3]
    weights = tmp_path / "run" / "weights"
    assert [YOLO(weights / f"{epoch}.pt").ckpt["epoch"] for epoch in (1, 2, 3)] == [0, 1, 2]


def test_the_trainer_is_left_as_it_was(train):
    train([ycb.CSVLogger()], epochs=1)
    trainer = train.model.trainer
    assert not {"save_model", "save_metrics", "final_eval", "plot_metrics"} & vars(trainer).keys()
    assert type(trainer.last) is type(trainer.best) is type(trainer.save_dir)
    trainer.final_eval()
