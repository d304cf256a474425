"""What is read of a trainer: epochs counted from 1, its plan and its files, in every phase of a run."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from ultralytics.cfg import get_cfg

from yolo_callbacks import Finish, Plan
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.trainer.run_state import RunState


def trainer(**fields):
    """Return a trainer before its first epoch; its arguments are among the fields."""
    known = get_cfg()
    arguments = {name: value for name, value in fields.items() if name in vars(known) and name != "resume"}
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.02, 0.01)])
    one = SimpleNamespace(
        args=get_cfg(overrides={"epochs": 10, **arguments}),
        save_dir="runs/a",
        device=torch.device("cpu"),
        world_size=None,
        epochs=10,
        start_epoch=0,
        resume=False,
        stop=False,
        last="runs/a/weights/last.pt",
        best="runs/a/weights/best.pt",
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, lambda epoch: 1 - epoch / 10),
        train_loader=SimpleNamespace(dataset=SimpleNamespace(close_mosaic=lambda hyp: None)),
        loss_names=("box_loss", "cls_loss"),
        metrics={"metrics/mAP50(B)": 0.0},
        validator=SimpleNamespace(training=True),
    )
    vars(one).update({name: value for name, value in fields.items() if name not in arguments})
    return one


def state(**fields):
    return RunState(trainer(**fields))


@pytest.mark.parametrize(
    ("fields", "epoch", "before"),
    [
        ({}, 0, 0),
        ({"start_epoch": 4}, 4, 4),
        ({"epoch": 0}, 1, 0),
        ({"start_epoch": 4, "epoch": 6}, 7, 4),
    ],
)
def test_epochs_are_counted_from_1_and_before_the_first_as_done(fields, epoch, before):
    assert (state(**fields).epoch, state(**fields).epochs_before) == (epoch, before)


@pytest.mark.parametrize(
    ("name", "fields", "value"),
    [
        ("world_size", {}, 0),
        ("world_size", {"world_size": 2}, 2),
        ("has_time_limit", {}, False),
        ("has_time_limit", {"time": 0.5}, True),
        ("resumed", {"resume": "last.pt"}, True),
        ("resumed", {}, False),
        ("has_trained", {}, False),
        ("has_trained", {"tloss": None}, False),
        ("has_trained", {"tloss": torch.zeros(2)}, True),
        ("stopping", {"stop": True}, True),
        ("evaluates_finally", {}, False),
        ("evaluates_finally", {"validator": None}, False),
        ("evaluates_finally", {"validator": SimpleNamespace(training=False)}, True),
        ("save_period", {"save_period": 3}, 3),
        ("batches_per_epoch", {"train_loader": range(7)}, 7),
        ("callbacks_dir", {}, Path("runs/a/callbacks")),
        ("last_checkpoint", {}, Path("runs/a/weights/last.pt")),
        ("best_checkpoint", {}, Path("runs/a/weights/best.pt")),
    ],
)
def test_what_is_read(name, fields, value):
    found = getattr(state(**fields), name)
    assert (found, type(found)) == (value, type(value))


def test_the_checkpoint_that_a_run_resumes_from_is_that_of_its_arguments():
    one = trainer(resume=True)
    one.args.resume = "runs/a/weights/backup.pt"
    assert RunState(one).resumed_from == Path("runs/a/weights/backup.pt")


def test_the_plan_is_that_of_the_group_with_the_lowest_rate():
    planned = state(lrf=0.1, patience=7, warmup_epochs=2, close_mosaic=4).plan()
    assert planned == Plan(10, base_lr=0.01, final_lr=0.001, trainer_patience=7, warmup_epochs=2.0, close_mosaic=4)
    assert state(patience=0).plan().trainer_patience == 0


def test_scheduled_rates_and_those_of_a_finish():
    run = state(epoch=4, lrf=0.0)
    assert [run.scheduled_lr(epoch) for epoch in (1, 6, 10)] == pytest.approx([0.01, 0.005, 0.001])
    assert run.planned_before_finish == 0
    run.trainer.epochs = 7
    run._ending.state = FinishState(Finish("", 4, end_epoch=7, planned_epochs=10, base_lr=0.006))
    assert [run.scheduled_lr(epoch) for epoch in (1, 5, 6, 7)] == pytest.approx([0.01, 0.006, 0.003, 0.0])
    assert (run.planned_epochs, run.planned_before_finish) == (7, 10)


def test_names_of_metrics_before_the_first_epoch():
    names, has_losses = state().metric_names()
    assert has_losses
    assert list(names) == [
        *("fitness", "metrics/mAP50(B)", "lr/pg0", "lr/pg1"),
        *("train/box_loss", "train/cls_loss", "val/box_loss", "val/cls_loss"),
    ]
    unknown, has_losses = state(loss_names=None, model=SimpleNamespace()).metric_names()
    assert not has_losses
    assert list(unknown) == ["fitness", "metrics/mAP50(B)", "lr/pg0", "lr/pg1"]


def test_losses_of_a_batch_are_numbers():
    losses = {"box_loss": torch.tensor(1.5), "note": "none"}
    assert state(loss_items=losses).batch_losses() == {"box_loss": 1.5}
    assert state(loss_items=None).batch_losses() == {}
