"""What callbacks may see of a model; each watch has its own tests beside this file."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.trainer.model.step_trainer import StepTrainer, traces
from yolo_callbacks.trainer.model.view import ModelView


@pytest.mark.parametrize(
    ("scaler", "expected"),
    [
        (torch.amp.GradScaler("cpu", enabled=True), True),
        (torch.amp.GradScaler("cpu", enabled=False), False),
        (None, False),
    ],
)
def test_whether_steps_may_be_skipped(scaler, expected):
    assert ModelView(SimpleNamespace(scaler=scaler)).uses_grad_scaler is expected
    assert ModelView(SimpleNamespace()).uses_grad_scaler is False  # before the trainer is set up


@pytest.mark.parametrize(("ema", "expected"), [(True, 2.0), (False, 1.0)])
def test_weights_are_those_of_the_model_that_is_validated(ema, expected):
    def model(value):
        layer = nn.Linear(3, 2)
        nn.init.constant_(layer.weight, value)
        return layer

    trainer = SimpleNamespace(model=model(1.0), ema=SimpleNamespace(ema=model(2.0)) if ema else None)
    found = ModelView(trainer).sample_weights(4)
    assert found["weight"].tolist() == [expected] * 4
    assert len(found["bias"]) == 2


@pytest.mark.parametrize(("data", "channels"), [({"channels": 1}, 1), ({}, 3), (None, 3)])
def test_the_graph_is_that_of_the_model_that_is_validated(data, channels, monkeypatch):
    from yolo_callbacks.trainer.model import view

    asked = []
    monkeypatch.setattr(view, "prepare_graph", lambda *arguments: asked.append(arguments))
    ema = SimpleNamespace(ema="validated")
    trainer = SimpleNamespace(model="trained", ema=ema, data=data, args=SimpleNamespace(imgsz=64))
    ModelView(trainer).prepare_graph()
    assert asked == [("validated", channels, 64)]


def test_a_release_ends_every_watch():
    trainer = StepTrainer()
    before = traces(trainer)
    seen = []
    model = ModelView(trainer)
    model.watch_gradients("A", lambda step: seen.append("gradients"))
    model.watch_activations("B", ["1"], lambda *_: seen.append("activations"))
    model.begin_epoch()
    trainer.batch()
    assert sorted(seen) == ["activations", "gradients"]
    model.release()
    assert traces(trainer) == before
    trainer.batch()
    assert len(seen) == 2
    model.release()
    model.begin_epoch()  # of nothing any more


def test_counting_begins_anew_with_an_epoch():
    trainer, seen = StepTrainer(), []
    model = ModelView(trainer)
    model.watch_activations("A", ["1"], lambda batch, layer, output: seen.append((batch, layer)), every_n_batches=2)
    for batches in (4, 1):
        model.begin_epoch()
        for _ in range(batches):
            trainer.batch()
    assert seen == [(1, "1"), (3, "1"), (1, "1")]
    model.release()
