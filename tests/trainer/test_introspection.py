"""What is read from a trainer, of which only what is looked at is there."""

from types import SimpleNamespace

import pytest
import torch
from ultralytics.cfg import get_cfg

from tests.odd_values import NUMBERS, ODD
from yolo_callbacks.trainer import introspection


def trainer(**arguments):
    dataset = SimpleNamespace(close_mosaic=lambda hyp: None)
    return SimpleNamespace(
        args=get_cfg(overrides=arguments),
        epochs=arguments.get("epochs", 100),
        device=torch.device("cpu"),
        world_size=0,
        train_loader=SimpleNamespace(dataset=dataset),
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.2}]),
        loss_names=("box_loss",),
        metrics={"metrics/mAP50(B)": 0.0},
        epoch_time=5.0,
        epoch_time_start=100.0,
    )


def test_of_odd_values_the_numbers_are_kept():
    found = introspection.numbers(ODD)
    assert found == pytest.approx(NUMBERS, nan_ok=True)
    assert {type(value) for value in found.values()} == {float}


def test_learning_rates_have_the_trainers_names():
    assert introspection.learning_rates(trainer()) == {"lr/pg0": 0.1, "lr/pg1": 0.2}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 10),
        ({"close_mosaic": 0}, 0),
        ({"mosaic": 0.0}, 0),  # it changes nothing
        ({"mosaic": 0.0, "mixup": 0.1, "close_mosaic": 3}, 3),
    ],
)
def test_epochs_without_what_mixes_pictures(arguments, expected):
    assert introspection.close_mosaic(trainer(**arguments)) == expected
    other = trainer(**arguments)
    other.train_loader.dataset = object()  # one that cannot be told
    assert introspection.close_mosaic(other) == 0


@pytest.mark.parametrize(("train_seconds", "now", "seconds"), [(2.0, None, 5.0), (2.0, 103.0, 3.0), (None, None, 5.0)])
def test_durations_and_speed(train_seconds, now, seconds):
    one = trainer()
    one.train_loader.dataset = ["a picture"] * 8
    measured = introspection.measures(one, train_seconds, now)
    assert measured["seconds"] == seconds
    assert measured.get("images_per_second") == (4.0 if train_seconds else None)
    assert measured["rss_gb"] > 0
    assert set(measured) <= set(introspection.measure_names(one))
    assert "gpu_gb" not in measured


def test_names_of_losses_and_metrics_before_the_first_batch():
    assert introspection.loss_names(trainer()) == ("box_loss",)
    assert introspection.metric_names(trainer()) == ("metrics/mAP50(B)",)
    unknown = trainer(task="classify")
    unknown.loss_names, unknown.model = None, SimpleNamespace(init_criterion=object)
    assert introspection.loss_names(unknown) == ("loss",)
    unknown.model = SimpleNamespace()  # a user's own, without a criterion
    assert introspection.loss_names(unknown) == ()
    depth = introspection.metric_names(trainer(task="depth"))  # its validator has those of boxes at first
    assert depth
    assert "metrics/mAP50(B)" not in depth


def test_a_description_is_plain_data(tmp_path):
    about = introspection.description(trainer(model="yolo26n.pt", data="coco8.yaml", imgsz=64, classes=[0, 2]))
    assert (about["task"], about["model"], about["data"]) == ("detect", "yolo26n.pt", "coco8.yaml")
    assert (about["device"], about["processes"]) == ("cpu", 1)
    assert (about["args"]["imgsz"], about["args"]["classes"]) == (64, [0, 2])
    assert {"python", "yolo_callbacks", "ultralytics", "torch"} == set(about["versions"])


def test_a_checkpoint_is_judged_as_the_run_judges_it(tmp_path):
    (tmp_path / "data.yaml").touch()
    judged = introspection.validation_arguments(
        trainer(data=str(tmp_path / "x" / ".." / "data.yaml"), imgsz=64, iou=0.5, single_cls=True, lr0=0.5)
    )
    assert judged["imgsz"] == 64
    assert (judged["iou"], judged["single_cls"]) == (0.5, True)
    assert "lr0" not in judged
    assert introspection.validation_arguments(trainer(data="coco8.yaml"))["data"] == "coco8.yaml"


class Mine:
    """A validator of a user's own."""


def test_a_validation_of_ones_own_may_measure_more():
    from ultralytics.engine.trainer import BaseTrainer

    ours = SimpleNamespace(validate=BaseTrainer.validate, validator=None)
    assert not introspection.validates_in_its_own_way(ours)
    assert introspection.validates_in_its_own_way(SimpleNamespace(validate=BaseTrainer.validate, validator=Mine()))
    assert introspection.validates_in_its_own_way(SimpleNamespace(validate=Mine, validator=None))
