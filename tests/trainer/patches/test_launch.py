"""A launching process hears of a training before the program of its workers is written, and only our functions do."""

from types import SimpleNamespace

import pytest
from ultralytics.utils import dist

from yolo_callbacks.trainer.patches import launch


class Listener:
    def __init__(self, told):
        self.told = told

    def __call__(self, trainer):
        self.told.append(trainer)


@pytest.fixture
def told(monkeypatch):
    """Announce launches to `Listener`, and list what is called and written, in order."""
    calls = []
    monkeypatch.setattr(dist, "generate_ddp_file", lambda trainer: calls.append("written") or "program.py")
    launch.announce_launches.__wrapped__(Listener)
    return calls


def test_ours_are_called_before_the_program_is_written(told):
    functions = [lambda trainer: told.append("a user's"), Listener(told)]
    trainer = SimpleNamespace(callbacks={"on_pretrain_routine_start": functions, "teardown": [Listener(told)]})
    assert dist.generate_ddp_file(trainer) == "program.py"
    assert told == [trainer, "written"]


def test_an_error_in_one_of_ours_comes_before_anything_is_written(told):
    def fail(trainer):
        raise TypeError("cannot be pickled")

    listener = Listener(told)
    listener.told = SimpleNamespace(append=fail)
    with pytest.raises(TypeError, match="cannot be pickled"):
        dist.generate_ddp_file(SimpleNamespace(callbacks={"on_pretrain_routine_start": [listener]}))
    assert told == []


def test_a_trainer_without_ours_is_launched_as_without_us(told):
    assert dist.generate_ddp_file(SimpleNamespace(callbacks={})) == "program.py"
    assert told == ["written"]


def test_it_is_changed_once_per_process(monkeypatch):
    monkeypatch.setattr(dist, "generate_ddp_file", dist.generate_ddp_file)  # put back afterwards
    launch.announce_launches(Listener)
    once = dist.generate_ddp_file
    launch.announce_launches(Listener)
    assert dist.generate_ddp_file is once
