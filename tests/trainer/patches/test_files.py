"""A trainer whose methods are overridden: what is put around them passes on what goes in, comes out and goes wrong."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from yolo_callbacks.trainer.patches.files import protect_files
from yolo_callbacks.trainer.patches.published_metrics import PublishedMetrics


class Trainer:
    """The part of a trainer that writes, all of it overridden with arguments of its own."""

    def __init__(self, folder):
        self.save_dir, self.wdir, self.csv = folder, folder / "weights", folder / "results.csv"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
        self.world_size, self.metrics = 0, {}
        self.calls = []
        self.error = None

    def _note(self, *call):
        self.calls.append(call)
        return call

    def validate(self, part="all"):
        return self._note("validate", part)

    def save_metrics(self, metrics, note=""):
        with open(self.csv, "a") as file:
            file.write("epoch,note\n" if not self.calls else "")
            file.write(f"{metrics['epoch']},{note}\n")
            if self.error is not None:
                file.write("half a r")
        self._note("save_metrics", note)
        if self.error is not None:
            raise self.error

    def save_model(self, suffix="", *, best=False):
        return self._note("save_model", suffix, best)

    def final_eval(self, model=None):
        return self._note("final_eval", model)

    def plot_metrics(self, style="plain"):
        return self._note("plot_metrics", style)


@pytest.fixture
def trainer(tmp_path):
    made = Trainer(tmp_path)
    made.validations = []
    made.undo = protect_files(
        made,
        lambda: None,
        lambda data, saved: None,
        lambda: made.validations.append(1),
        lambda: True,
        PublishedMetrics(made),
    )
    return made


def test_all_arguments_and_results_are_passed_on(trainer):
    assert trainer.validate(part="half") == ("validate", "half")
    assert trainer.validations == [1]
    assert trainer.save_model("-swa", best=True) == ("save_model", "-swa", True)
    assert trainer.final_eval("best") == ("final_eval", "best")
    assert trainer.plot_metrics(style="dark") == ("plot_metrics", "dark")
    trainer.save_metrics({"epoch": 1}, note="x")
    assert trainer.calls[-1] == ("save_metrics", "x")
    trainer.undo()
    assert not {"validate", "save_metrics", "save_model", "final_eval", "plot_metrics"} & set(vars(trainer))
    assert type(trainer.last) is type(Path())


def test_an_error_of_an_override_comes_out_and_its_row_stays(trainer):
    trainer.save_metrics({"epoch": 1})
    trainer.error = ConnectionError("the dashboard is down")
    with pytest.raises(ConnectionError, match="the dashboard is down"):
        trainer.save_metrics({"epoch": 2})
    assert trainer.csv.read_text().splitlines()[1:] == ["1,", "2,", "half a r"]  # as without us


def test_a_full_disk_leaves_whole_rows(trainer):
    trainer.save_metrics({"epoch": 1})
    trainer.error = OSError(errno.ENOSPC, "No space left on device")
    trainer.save_metrics({"epoch": 2})
    assert trainer.csv.read_text() == "epoch,note\n1,\n2,\n"


def test_a_trainer_with_methods_of_its_own_object_gets_them_back(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.save_model = mine = lambda: "mine"
    undo = protect_files(
        trainer, lambda: None, lambda *_: None, lambda: None, lambda: True, PublishedMetrics(SimpleNamespace())
    )
    del trainer.validate  # whoever takes ours off does no harm
    undo()
    assert trainer.save_model is mine


def test_a_checkpoint_of_save_period_is_never_half_there(trainer):
    path, earlier = trainer.wdir / "epoch2.pt", trainer.save_dir / "earlier"
    path.write_bytes(b"of an earlier run")
    earlier.hardlink_to(path)
    path.write_bytes(b"of this run")
    assert (path.read_bytes(), earlier.read_bytes()) == (b"of this run", b"of an earlier run")  # replaced, not opened
    trainer.undo()
    assert type(trainer.wdir) is type(trainer.wdir / "epoch4.pt") is type(Path())


def test_a_checkpoint_of_save_period_that_does_not_fit_leaves_nothing(trainer, monkeypatch):
    path = trainer.wdir / "epoch2.pt"
    trainer.wdir.mkdir()
    monkeypatch.setattr(type(Path()), "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    path.write_bytes(b"of this run")
    assert not list(trainer.wdir.iterdir())
