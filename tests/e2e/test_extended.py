"""Runs that are trained for more epochs: after an early stop, after their end, and after an interruption."""

import json
import shutil

import pandas as pd
import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL, constant, crash_in, journal, run_json
from yolo_callbacks.cli.arguments import UsageError
from yolo_callbacks.cli.resume import extend_run
from yolo_callbacks.cli.train import TrainRequest, train_command
from yolo_callbacks.run_dir.extending import ExtensionError, prepare_extension
from yolo_callbacks.trainer.exact.random_state import mosaic_is_open

STOPPED, PLANNED = 4, 8
ORIGINALS = ["args.yaml", "results.csv", "callbacks/run.json", "callbacks/journal.jsonl", "weights/last.pt"]
PROGRAM = """
import os, sys
import yolo_callbacks as ycb
from tests.e2e.test_extended import callbacks
from yolo_callbacks.session.session import Session
begin = Session._on_train_epoch_end
def killed(self):
    if self.run.epoch == 5:
        os._exit(9)
    begin(self)
Session._HANDLERS["on_train_epoch_end"] = killed
ycb.extend(sys.argv[1], 4, schedule="rewarm", callbacks=callbacks())
"""


def callbacks():
    """Return what ends a run after four epochs, as a constant is never better."""
    return [
        ycb.ModelCheckpoint(monitor=constant, mode="max", save_last=True),
        ycb.EarlyStopping(monitor=constant, mode="max", patience=STOPPED - 1),
        ycb.CSVLogger(),
    ]


@pytest.fixture(scope="module")
def stopped(shapes, tmp_path_factory):
    """Return the directory of a run that was stopped early. It has its latest checkpoint, and the best: epoch 1's."""
    model = YOLO(TINY_MODEL, verbose=False)
    ycb.attach(model, callbacks())
    project = tmp_path_factory.mktemp("stopped")
    model.train(**TINY, data=str(shapes), epochs=PLANNED, optimizer="AdamW", project=str(project), name="run")
    return project / "run"


@pytest.fixture
def run(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in ORIGINALS}


@pytest.fixture(scope="module")
def extended(stopped, tmp_path_factory):
    """Return the stopped run with four more epochs, its files before, and the attachment."""
    run = shutil.copytree(stopped, tmp_path_factory.mktemp("extended") / "run")
    before = bytes_of(run)
    return run, before, ycb.extend(run, 4, schedule="rewarm", callbacks=callbacks())


def test_an_early_stop_goes_on_in_one_history(extended, stopped):
    run, before, attachment = extended
    numbers = list(range(1, 8))  # the patience of three begins anew, and counts from the first of the new epochs
    assert attachment.history.index.tolist() == numbers
    assert attachment.history["EarlyStopping/wait"].tolist() == [0, 1, 2, 3, 1, 2, 3]
    for name in ("results.csv", "callbacks/epochs.csv"):
        assert pd.read_csv(run / name)["epoch"].tolist() == numbers
    old = pd.read_csv(stopped / "results.csv")
    assert pd.read_csv(run / "results.csv")[:STOPPED].equals(old)
    assert attachment.stop_reason is ycb.StopReason.PLATEAU
    (mark,) = run_json(run)["extensions"]
    assert (mark["after"], mark["planned_epochs"], mark["trained"]) == (STOPPED, STOPPED + 4, STOPPED)
    assert mark["ended"].startswith("stop, no improvement in constant for 3 epochs")
    assert run_json(run)["id"] == json.loads(before["callbacks/run.json"])["id"]


def test_rewarm_begins_at_the_initial_rate_and_falls_to_the_final_one(extended):
    _, _, attachment = extended
    assert attachment.history["lr/pg0"].tolist()[STOPPED:] == pytest.approx([0.01, 0.0067, 0.0034])


def test_the_state_before_an_extension_is_kept(extended):
    run, before, _ = extended
    assert bytes_of(run / "before-extension") == before
    assert not (run / "weights" / "extended.pt").exists()
    assert torch_load(run / "weights" / "last.pt")["train_args"]["epochs"] == STOPPED + 4
    assert run_json(run)["status"] == "stopped"


def test_a_killed_extension_goes_on_twice(extended, run):
    done = programs.run(["-c", PROGRAM, run])
    assert done.returncode == 9, done.stderr
    assert journal(run).plan.extensions[0].after == STOPPED
    for crash in (6, None):  # before the first new checkpoint, and after it
        checkpoint = ycb.newest_checkpoint(run)
        assert checkpoint.name == ("extended.pt" if crash else "last.pt")
        model = YOLO(checkpoint)
        attachment = ycb.attach(model, callbacks())
        if crash is None:
            model.train(resume=True, save_dir=str(run))
            break
        model.add_callback("on_train_epoch_start", crash_in(crash, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            model.train(resume=True, save_dir=str(run))
    columns = ["EarlyStopping/wait", "lr/pg0", "lr_factor", "event"]
    pd.testing.assert_frame_equal(attachment.history[columns], extended[2].history[columns])
    assert journal(run).plan == journal(extended[0]).plan


def test_hold_keeps_rate_mosaic_and_loss_as_they_were_and_goes_on_from_the_exact_state(tmp_path, train, said):
    """Twice: an extension can be extended."""
    seen = []

    class Spy(ycb.Callback):
        def on_train_batch_end(self, trainer):
            criterion = trainer.model.criterion
            seen.append((trainer.epoch + 1, mosaic_is_open(trainer.train_loader.dataset), round(criterion.o2m, 6)))

    def chosen():
        return [ycb.BackupAndRestore(delete_checkpoint=False), Spy()]

    train(chosen(), epochs=3, close_mosaic=1, optimizer="AdamW")
    run = tmp_path / "run"
    at_end = torch.load(run / "weights" / "states" / "epoch3-rank0of1.state", weights_only=True)["state"]
    weights = {}
    before = {name: value.clone() for name, value in at_end["model"].items()}

    class Look(ycb.Callback):
        def on_train_batch_start(self, trainer):
            weights.update(weights or {name: value.clone() for name, value in trainer.model.state_dict().items()})

    rates = ycb.extend(run, 2, schedule="hold", callbacks=[*chosen(), Look()]).history["lr/pg0"].tolist()
    assert rates[3:] == [rates[2]] * 2
    assert said("Extending from the saved state of epoch 3")
    assert all(torch.equal(weights[name], value) for name, value in before.items() if name in weights)
    again = ycb.extend(run, 1, schedule="continue", callbacks=chosen())
    assert [mark["schedule"] for mark in run_json(run)["extensions"]] == ["hold", "continue"]
    assert again.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert (run / "before-extension-2" / "weights" / "last.pt").exists()
    assert [is_open for _, is_open, _ in seen] == [True, True, False, False, False, False]
    assert [share for epoch, _, share in seen if epoch in (4, 5)] == [0.1, 0.1]


def test_from_the_command_line(run, tmp_path, said, capsys):
    """The best epoch alone has its optimizer, so that the first new one is number 2."""
    (run / "weights" / "latest.pt").unlink()
    config = tmp_path / "callbacks.yaml"
    config.write_text("- CSVLogger\n")
    request = TrainRequest(None, None, 5, config, str(run), False, True, [], schedule="continue")
    assert train_command(request) == 0
    assert "is extended after epoch 1 to 5 epochs, schedule='continue' (epochs 2 to 4 are abandoned)" in _words(capsys)
    assert pd.read_csv(run / "results.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]
    rates = pd.read_csv(run / "callbacks" / "epochs.csv")["lr/pg0"].tolist()
    assert rates[1:] == pytest.approx([0.01 * (0.99 * (1 - epoch / 5) + 0.01) for epoch in range(1, 5)])
    assert (run / "callbacks" / "journal.1.jsonl").exists()
    assert run_json(run)["status"] == "finished"


def _words(capsys):
    return " ".join(capsys.readouterr().err.split())


# ------------------------------------------------------------------------------------ without a training


def test_a_command_that_makes_no_sense(run, capsys):
    def told(resume, epochs, schedule):
        request = TrainRequest(None, None, epochs, None, resume, True, True, [], schedule=schedule)
        assert train_command(request) == 2
        return _words(capsys)

    assert "--schedule says how a run goes on for more epochs: give --resume RUN and --epochs" in told(None, 9, "hold")
    assert "cannot be restored from its run.json" in told(str(run), 9, "hold")
    assert not (run / "before-extension").exists()
    (run / "callbacks" / "run.json").unlink()
    assert "schedule='rewram' is not one of" in told(str(run), 9, "rewram")
    assert "has already trained 4 epochs: --epochs=4 must be more" in told(str(run), 4, None)


def test_only_the_best_has_its_optimizer_so_that_later_epochs_are_abandoned(run):
    (run / "weights" / "latest.pt").unlink()
    ready = prepare_extension(run, until=9, schedule="continue")
    assert str(ready).startswith(f"{run} is extended after epoch 1 to 9 epochs, schedule='continue' (epochs 2 to 4 are")
    assert ready.checkpoint.epochs == 1
    content = torch_load(run / "weights" / "extended.pt")
    assert content["train_args"]["epochs"] == 9
    assert content["optimizer"] is not None
    assert (content.get("stopper") or {"best_epoch": 1})["best_epoch"] == 1  # before 8.4.172 there is none


def test_without_an_optimizer_a_new_run_is_the_way(run):
    for name in ("latest.pt", "best-constant.pt"):
        (run / "weights" / name).unlink()
    with pytest.raises(ExtensionError, match=r"only finished models: start a new run from .*best\.pt, and keep one"):
        ycb.extend(run, 3, callbacks=callbacks())
    assert not (run / "before-extension").exists()


def test_epochs_that_are_not_more(run):
    for epochs in (1, STOPPED):
        with pytest.raises(UsageError, match=f"has already trained 4 epochs: --epochs={epochs} must be more than that"):
            extend_run(str(run), epochs, "hold")
    with pytest.raises(ValueError, match="epochs=0 must be"):
        ycb.extend(run, 0)


def test_a_run_by_the_clock(run):
    path = run / "weights" / "latest.pt"
    content = torch_load(path)
    content["train_args"]["time"] = 2.0
    torch.save(content, path)
    with pytest.raises(ExtensionError, match="was trained with time=2, which plans by the clock"):
        ycb.extend(run, 3, callbacks=callbacks())


def test_an_interrupted_run_with_more_epochs_and_with_those_that_it_had(run):
    (run / "weights" / "latest.pt").rename(run / "weights" / "last.pt")
    manifest = {**run_json(run), "status": "interrupted"}
    (run / "callbacks" / "run.json").write_text(json.dumps(manifest))
    same = extend_run(str(run), PLANNED, "continue")
    assert same.model.endswith("last.pt")
    assert not (run / "weights" / "extended.pt").exists()
    assert prepare_extension(run, more=5).extension.planned_epochs == PLANNED + 5
    ready = extend_run(str(run), 30, "continue")
    assert ready.model.endswith("extended.pt")
    assert ready.note.startswith(f"{run} is extended after epoch 4 to 30 epochs, schedule='continue' (the state before")


def test_an_optimizer_that_was_chosen_for_the_run_is_kept(run):
    path = run / "weights" / "latest.pt"
    content = torch_load(path)
    content["train_args"].update(optimizer="auto", lr0=0.5)
    torch.save(content, path)
    prepare_extension(run, until=100_000)
    arguments = torch_load(run / "weights" / "extended.pt")["train_args"]
    assert (arguments["optimizer"], arguments["lr0"]) == ("AdamW", 0.01)
