"""Disks that are full, read-only, or emptied while a training goes on."""

import contextlib
import resource
import shutil

import pandas as pd
import pytest
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests.helpers import wait_for
from yolo_callbacks.run_dir.journal import read_journal

SMALLER_THAN_A_CHECKPOINT = 50_000


def at_start_of(epochs):
    """Return what registers a function for the start of some epochs, counted from 1: `{3: function}`."""

    def act(trainer):
        if trainer.epoch + 1 in epochs:
            epochs[trainer.epoch + 1](trainer)

    return lambda model: model.add_callback("on_train_epoch_start", act)


def limit_files_to(size):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if size is None else size, most))


@pytest.fixture
def weights(tmp_path):
    yield tmp_path / "run" / "weights"
    limit_files_to(None)


def epoch_of(path):
    return torch_load(path, "cpu")["epoch"] + 1


def test_checkpoints_that_do_not_fit_leave_the_old_ones(train, weights, said):
    seen = {}

    def look(trainer):
        seen[trainer.epoch + 1] = {p.name: epoch_of(p) for p in weights.glob("[!.]*.pt")}

    def full(trainer):
        limit_files_to(SMALLER_THAN_A_CHECKPOINT)

    def free(trainer):
        look(trainer)
        limit_files_to(None)

    run = train(
        [ycb.BackupAndRestore(exact=False), ycb.ModelCheckpoint(save_last=True), ycb.CSVLogger()],
        before=at_start_of({3: full, 5: free, 6: look}),
        epochs=6,
    )
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    before, after = seen[5], seen[6]
    assert (before["last.pt"], before["latest.pt"], before["backup.pt"]) == (2, 1, 1)  # these two a copy behind
    assert not list(weights.glob(".*"))
    assert after["last.pt"] == 5
    for name in ("last.pt", "latest.pt", "backup.pt"):
        assert len(said(f"{name} cannot be written")) == 1  # not once an epoch
    assert said("last.pt can be written again")
    assert epoch_of(weights / "latest.pt") == 6


def test_a_training_state_that_does_not_fit_leaves_the_old_one(train, weights, said):
    seen = []

    def state(epoch):
        return weights / "states" / f"epoch{epoch}-rank0of1.state"

    def full(trainer):
        wait_for(state(2).exists)
        limit_files_to(SMALLER_THAN_A_CHECKPOINT)

    def free(trainer):
        seen.extend(path.name for path in (weights / "states").glob("epoch*"))  # and perhaps one that is being written
        limit_files_to(None)

    moments = {3: full, 5: free, 6: lambda trainer: wait_for(state(5).exists)}
    train([ycb.BackupAndRestore()], before=at_start_of(moments), epochs=6)
    assert seen == ["epoch2-rank0of1.state"]
    (failed, worked) = said("the training state in ")
    assert failed.endswith(
        "states cannot be written, the previous one is kept; training continues: [Errno 27] File too large"
    )
    assert worked.endswith("states can be written again")


def in_the_way_of(path, aside):
    """Return two functions: one makes every write to a file fail, with a folder in its place; one undoes that."""

    def block(trainer):
        path.rename(aside)
        path.mkdir()

    def unblock(trainer):
        path.rmdir()
        aside.rename(path)

    return block, unblock


def test_results_csv_that_cannot_be_written_does_not_end_the_training(train, tmp_path, said):
    block, unblock = in_the_way_of(tmp_path / "run" / "results.csv", tmp_path / "aside")
    run = train([ycb.CSVLogger()], before=at_start_of({2: block, 4: unblock}), epochs=5)
    assert run.history.index.tolist() == [1, 2, 3, 4, 5]
    assert pd.read_csv(run.save_dir / "callbacks" / "epochs.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert pd.read_csv(run.save_dir / "results.csv")["epoch"].tolist() == [1, 4, 5]
    assert len(said("results.csv cannot be written")) == 1


def test_the_lines_of_a_journal_that_cannot_be_written_wait(train, tmp_path, said):
    block, unblock = in_the_way_of(tmp_path / "run" / "callbacks" / "journal.jsonl", tmp_path / "aside")
    run = train([ycb.CSVLogger()], before=at_start_of({2: block, 4: unblock}), epochs=5)
    entries = read_journal(run.save_dir / "callbacks" / "journal.jsonl").entries
    assert [entry.record.epoch for entry in entries] == [1, 2, 3, 4, 5]
    assert len(said("journal.jsonl cannot be written")) == 1


def test_a_run_directory_that_was_removed_comes_back(train, tmp_path):
    run = train(
        [ycb.BackupAndRestore(), ycb.ModelCheckpoint(), ycb.CSVLogger()],
        before=at_start_of({3: lambda t: shutil.rmtree(tmp_path / "run", ignore_errors=True)}),
        epochs=5,
    )
    entries = read_journal(run.save_dir / "callbacks" / "journal.jsonl").entries
    assert [entry.record.epoch for entry in entries] == [1, 2, 3, 4, 5]
    assert pd.read_csv(run.save_dir / "callbacks" / "epochs.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert epoch_of(run.save_dir / "weights" / "last.pt") == 0  # finished and stripped, so it was there


def test_a_folder_that_cannot_be_written_ends_nothing(train, tmp_path, said):
    """A file in the place of the folder refuses every write, also to root."""

    def block(trainer):
        (tmp_path / "run").rename(tmp_path / "safe")
        while not (tmp_path / "run").is_file():  # a copy that is on its way may make the folder anew
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            with contextlib.suppress(IsADirectoryError):
                (tmp_path / "run").write_text("in the way")

    def unblock(trainer):
        (tmp_path / "run").unlink()
        while (tmp_path / "safe").exists():
            try:
                (tmp_path / "safe").rename(tmp_path / "run")
            except OSError:  # a writer that is on its way has made the folder anew
                shutil.rmtree(tmp_path / "run", ignore_errors=True)

    run = train([ycb.BackupAndRestore(), ycb.CSVLogger()], before=at_start_of({3: block, 5: unblock}), epochs=5)
    entries = read_journal(run.save_dir / "callbacks" / "journal.jsonl").entries
    assert [entry.record.epoch for entry in entries] == [1, 2, 3, 4, 5]
    assert said("no checkpoint is saved")


def test_a_disk_that_is_still_full_at_the_end(train, weights, said):
    run = train(
        [ycb.BackupAndRestore(), ycb.CSVLogger()],
        before=at_start_of({3: lambda t: limit_files_to(SMALLER_THAN_A_CHECKPOINT)}),
        epochs=4,
        save_period=1,
    )
    limit_files_to(None)
    assert run.history.index.tolist() == [1, 2, 3, 4]
    assert epoch_of(weights / "last.pt") == epoch_of(weights / "best.pt") == 2  # not stripped in place
    assert said("neither stripped nor evaluated again")
