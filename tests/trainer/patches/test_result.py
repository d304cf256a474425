"""`model.train()` on several GPUs loads the checkpoint that the workers have chosen, which is asked for late."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from yolo_callbacks.trainer.patches.result import return_checkpoint_of_workers


def loaded(trainer):
    """Return the checkpoint that `model.train()` loads; Ultralytics asks in the same order."""
    return trainer.best if trainer.best.exists() else trainer.last


@pytest.mark.parametrize(
    ("found", "best_is_there", "expected"),
    [
        ("epoch3.pt", True, "epoch3.pt"),
        ("epoch3.pt", False, "epoch3.pt"),
        ("gone.pt", True, "last.pt"),
        (None, True, "best.pt"),
        (None, False, "last.pt"),
    ],
)
def test_what_is_loaded(found, best_is_there, expected, tmp_path):
    trainer = SimpleNamespace(best=tmp_path / "best.pt", last=tmp_path / "last.pt")
    (tmp_path / "epoch3.pt").touch()
    if best_is_there:
        trainer.best.touch()
    return_checkpoint_of_workers(trainer, lambda: tmp_path / found if found else None)
    assert loaded(trainer) == tmp_path / expected


def test_it_is_looked_for_when_the_workers_are_done_and_not_before(tmp_path):
    asked = []
    trainer = SimpleNamespace(best=tmp_path / "best.pt", last=None)
    return_checkpoint_of_workers(trainer, lambda: asked.append(trainer.best.name))
    trainer.best.parent.mkdir(exist_ok=True)
    assert trainer.best == tmp_path / "best.pt"  # what else is asked of the path is answered as before
    assert str(trainer.best) == str(tmp_path / "best.pt")
    assert not trainer.best.with_suffix(".txt").exists()
    assert asked == []
    assert not trainer.best.exists()
    assert asked == ["best.pt"]


def test_what_was_best_is_a_plain_path_again_afterwards(tmp_path):
    best = tmp_path / "best.pt"
    trainer = SimpleNamespace(best=best, last=None)
    return_checkpoint_of_workers(trainer, lambda: None)
    assert not trainer.best.exists()
    assert trainer.best is best
    assert type(trainer.best) is type(Path())
