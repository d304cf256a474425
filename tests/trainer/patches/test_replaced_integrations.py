"""An integration of Ultralytics whose work a callback does."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from yolo_callbacks.trainer.patches.replaced_integrations import switch_off

MODULE = "ultralytics.utils.callbacks.mlflow"


def functions(called, *modules):
    """Return functions of these modules that note when they are called."""
    made = []
    for number, module in enumerate(modules):

        def function(trainer, number=number):
            called.append(number)

        function.__module__ = module
        made.append(function)
    return made


def trainer_with(called, *modules):
    return SimpleNamespace(callbacks=defaultdict(list, on_train_end=functions(called, *modules)), save_dir="/nowhere")


def test_its_functions_are_not_called_any_more_and_all_others_are():
    called = []
    trainer = trainer_with(called, "__main__", MODULE, "ultralytics.utils.callbacks.wb")
    assert switch_off(trainer, "mlflow")
    for function in trainer.callbacks["on_train_end"]:
        function(trainer)
    assert called == [0, 2]


def test_it_may_be_switched_off_while_its_list_is_gone_through():
    called = []
    trainer = trainer_with(called, "__main__", MODULE, "__main__")
    for function in trainer.callbacks["on_train_end"]:
        switch_off(trainer, "mlflow")
        function(trainer)
    assert called == [0, 2]


@pytest.mark.parametrize("modules", [(), ("__main__",), ("ultralytics.utils.callbacks.wb",)])
def test_one_that_is_not_on_is_none(modules):
    trainer = trainer_with([], *modules)
    assert not switch_off(trainer, "mlflow")
    assert len(trainer.callbacks["on_train_end"]) == len(modules)


@pytest.mark.parametrize(("events", "left"), [(0, False), (1, True)])
def test_the_event_file_that_tensorboard_has_opened_goes_if_nothing_is_in_it(events, left, tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter
    from ultralytics.utils.callbacks import tensorboard

    writer = SummaryWriter(str(tmp_path))
    for step in range(events * 20):
        writer.add_scalar("train/box_loss", 1.0, step)
    monkeypatch.setattr(tensorboard, "WRITER", writer, raising=False)
    trainer = trainer_with([], "ultralytics.utils.callbacks.tensorboard")
    trainer.save_dir = tmp_path
    assert switch_off(trainer, "tensorboard")
    assert tensorboard.WRITER is None
    assert bool(list(tmp_path.iterdir())) is left


def test_a_writer_of_another_run_is_left_alone(tmp_path, monkeypatch):
    from ultralytics.utils.callbacks import tensorboard

    other = SimpleNamespace(log_dir=str(tmp_path / "other"), close=lambda: pytest.fail("it is closed"))
    monkeypatch.setattr(tensorboard, "WRITER", other, raising=False)
    trainer = trainer_with([], "ultralytics.utils.callbacks.tensorboard")
    trainer.save_dir = tmp_path
    assert switch_off(trainer, "tensorboard")
    assert tensorboard.WRITER is other
