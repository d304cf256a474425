"""A range test on the real trainer: it finds a rate, changes nothing, and ends where the loss diverges."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL


def seed():
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


def test_a_range_test_leaves_everything_as_it_was(shapes, tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    YOLO(TINY_MODEL, verbose=False).save("start.pt")  # a pretrained model, which a test might train on
    model = YOLO("start.pt")
    ycb.attach(model, ycb.CSVLogger())
    weights = copy.deepcopy(model.model.state_dict())
    others = {name: copy.copy(value) for name, value in vars(model).items() if name not in ("model", "ckpt")}
    seed()
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    seed()

    arguments = {**TINY, "data": str(shapes), "epochs": 5, "optimizer": "auto", "batch": 2, "warmup_epochs": 3}
    found = ycb.lr_find(model, num_training=25, max_lr=1e30, picture="lr.png", **arguments)

    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert all(torch.equal(value, weights[name]) for name, value in model.model.state_dict().items())
    assert {name: value for name, value in vars(model).items() if name in others} == others
    assert not torch.are_deterministic_algorithms_enabled()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr.png", "start.pt"]
    assert imread("lr.png").std() > 0.05

    assert found.diverged  # long before 1e30
    assert 2 < len(found.lrs) == len(found.losses) < 25
    assert found.lrs[0] == pytest.approx(1e-6)  # no warm-up, which would begin at 0
    assert found.optimizer == "AdamW"
    assert found.auto.startswith("optimizer=auto, which you use, ignores lr0: for this data and number of epochs it")
    assert found.auto.endswith("chooses AdamW with lr0=0.00125")
    assert said("AdamW(lr=0.00125, momentum=0.9)")  # Ultralytics' own words
    assert found.suggestion is None
    assert found.picture == Path("lr.png")


def test_arguments_that_make_no_sense():
    model = YOLO(TINY_MODEL, verbose=False)
    for arguments, message in (
        ({"min_lr": 1.0}, "max_lr=1.0 must be"),
        ({"mode": "exponentially"}, "mode='exponentially' is not one of 'exponential', 'linear' \\(did you mean"),
        ({"num_training": 3}, "num_training=3 must be"),
        ({"early_stop_threshold": 1.0}, "early_stop_threshold=1.0 must be"),
        ({"resume": True}, "leave out resume"),
        ({"data": ["a.yaml", "b.yaml"]}, "one data set"),
    ):
        with pytest.raises(ValueError, match=message):
            ycb.lr_find(model, **arguments)
