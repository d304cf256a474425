"""The checkpoint of an epoch: whether last.pt has it, and its bytes if not, as the trainer itself would write them."""

import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from yolo_callbacks.trainer.checkpointing import Checkpointing


class Trainer(SimpleNamespace):
    """Saves what it is told to save, and where, as Ultralytics' trainer does."""

    def __init__(self, folder, save=True, task="detect"):
        weights = torch.nn.Linear(1, 1)
        super().__init__(
            args=SimpleNamespace(save=save, task=task),
            last=folder / "last.pt",
            best=folder / "best.pt",
            wdir=folder,
            save_period=5,
            epoch=2,
            metrics={"fitness": 0.5},
            ema=SimpleNamespace(ema=weights),
            scheduler=SimpleNamespace(),
            saves=0,
        )

    def save_model(self):
        self.saves += 1
        buffer = io.BytesIO()
        torch.save({"epoch": self.epoch, "weight": self.ema.ema.weight.detach()}, buffer)
        for path in (self.last, self.best):
            path.write_bytes(buffer.getvalue())
        if self.save_period > 0:
            (self.wdir / f"epoch{self.epoch}.pt").write_bytes(b"")


class Own(Trainer):
    """Writes the file by itself, not by `Path.write_bytes`."""

    def save_model(self):
        torch.save({"epoch": self.epoch}, str(self.last))


class Broken(Trainer):
    """Fails in the middle of it."""

    def save_model(self):
        raise OSError(28, "No space left on device")


@pytest.fixture
def groups():
    """Return what happened to the optimizer's parameter groups."""
    return []


@pytest.fixture
def one(tmp_path, groups):
    """Return a function that makes what saves a trainer's checkpoints in its third epoch."""

    def make(kind=Trainer, **arguments):
        run = SimpleNamespace(trainer=kind(tmp_path, **arguments), epoch=3, epoch_is_open=True, has_trained=True)
        return run, Checkpointing(run, SimpleNamespace(restore_groups=lambda: groups.append("restored")))

    return make


def content(data):
    return torch.load(io.BytesIO(data))


def unchanged(trainer, folder):
    """Return whether a trainer is as it was, and has written nothing."""
    same = (trainer.last, trainer.best) == (folder / "last.pt", folder / "best.pt")
    return same and (trainer.save_period, trainer.epoch, list(folder.iterdir())) == (5, 2, [])


def test_an_epoch_that_last_pt_does_not_hold_is_written_to_no_file_and_once(one, tmp_path):
    run, saver = one()
    data = saver.epoch_bytes()
    assert content(data)["epoch"] == 2
    assert saver.epoch_bytes() is data
    assert run.trainer.saves == 1
    assert unchanged(run.trainer, tmp_path)


def test_the_bytes_of_an_epoch_go_with_it(one):
    run, saver = one()
    saver.epoch_bytes()
    saver.close_epoch()
    run.epoch, run.trainer.epoch = 4, 3
    assert content(saver.epoch_bytes())["epoch"] == 3


def test_last_pt_holds_an_epoch_only_if_it_was_written_during_it(one):
    run, saver = one()
    saver.note_saved()
    assert saver.epoch_bytes() is None
    saver.close_epoch()
    run.epoch = 4
    assert saver.epoch_bytes() is not None
    saver.close_epoch()
    run.epoch_is_open = False
    saver.note_saved()  # a save before the epoch's batches are done
    assert saver.epoch_bytes() is not None


@pytest.mark.parametrize("saved", [True, False])
def test_bytes_that_the_disk_has_refused_are_not_made_again(saved, one):
    run, saver = one()
    saver.note_written(b"written", saved)
    assert saver.epoch_bytes() == (None if saved else b"written")
    saver.note_saved()  # the trainer's own event comes after a refused write, too
    assert saver.epoch_bytes() == (None if saved else b"written")
    assert run.trainer.saves == 0


def test_a_trainer_that_writes_its_file_in_its_own_way_is_read_back(one, tmp_path):
    run, saver = one(Own)
    assert content(saver.epoch_bytes()) == {"epoch": 2}
    assert unchanged(run.trainer, tmp_path)


def test_an_error_leaves_the_trainer_as_it_was(one, tmp_path):
    run, saver = one(Broken)
    with pytest.raises(OSError, match="No space left"):
        saver.epoch_bytes()
    assert unchanged(run.trainer, tmp_path)


# ------------------------------------------------------------------------------------ the current weights


@pytest.mark.parametrize("finished", [2, 0])
def test_current_weights_name_the_finished_epochs(finished, one, groups, tmp_path):
    run, saver = one()
    assert content(saver.current_bytes(finished))["epoch"] == finished - 1
    assert groups == ["restored"]
    assert unchanged(run.trainer, tmp_path)


def test_current_weights_are_not_those_of_the_epoch(one):
    run, saver = one()
    early = saver.epoch_bytes()
    torch.nn.init.constant_(run.trainer.ema.ema.weight, 7.0)
    assert content(saver.current_bytes(2))["weight"].item() == 7.0
    assert saver.epoch_bytes() is early


def test_what_is_not_worth_saving(one):
    run, saver = one()
    for value in (float("nan"), float("inf")):
        torch.nn.init.constant_(run.trainer.ema.ema.weight, value)
        assert saver.current_bytes(2) is None
    torch.nn.init.constant_(run.trainer.ema.ema.weight, 1.0)
    assert saver.current_bytes(2) is not None
    run.trainer.metrics = None  # before the model is set up
    assert saver.current_bytes(2) is None
    run.trainer.metrics, run.trainer.ema = {}, None
    assert saver.current_bytes(2) is None


@pytest.mark.parametrize(
    ("save", "trained", "noted", "saves"),
    [(False, True, False, 1), (True, True, False, 0), (False, False, False, 0), (False, True, True, 0)],
)
def test_with_save_false_the_checkpoint_of_the_last_epoch_is_written_in_the_end(save, trained, noted, saves, one):
    run, saver = one(save=save)
    run.has_trained = trained
    if noted:
        saver.note_saved()
    saver.save_final_epoch()
    assert run.trainer.saves == saves
    assert run.trainer.last.exists() == bool(saves)


# ------------------------------------------------------------------------------------ depth


@pytest.fixture
def calibrated(monkeypatch):
    """Return what was calibrated, in place of Ultralytics' own way, which needs a depth model and its data."""
    calls = []

    def calibrate_checkpoint(checkpoint, loader, device, max_depth):
        calls.append((checkpoint, loader, device, max_depth))
        if checkpoint.name == "broken.pt":
            raise ValueError("no distances")

    module = ModuleType("ultralytics.models.yolo.depth.calibrate")
    module.calibrate_checkpoint = calibrate_checkpoint
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def depth_saver(one, **data):
    run, saver = one(task="depth")
    vars(run.trainer).update(test_loader="loader", device="cpu", data=data)
    return saver


@pytest.mark.parametrize(("data", "most"), [({}, 100.0), ({"max_depth": None}, 100.0), ({"max_depth": 10}, 10)])
def test_a_depth_model_is_calibrated_with_the_data_of_its_run(data, most, one, calibrated):
    saver = depth_saver(one, **data)
    assert saver.needs_calibration
    saver.calibrate(Path("a.pt"))
    assert calibrated == [(Path("a.pt"), "loader", "cpu", most)]


def test_a_calibration_that_fails_is_told_and_no_other_model_needs_one(one, calibrated, said):
    depth_saver(one).calibrate(Path("broken.pt"))
    assert said.warnings == ["broken.pt could not be calibrated: ValueError: no distances"]
    saver = one()[1]
    saver.calibrate(Path("a.pt"))
    assert not saver.needs_calibration
    assert len(calibrated) == 1
