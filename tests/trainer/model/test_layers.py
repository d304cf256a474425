"""Layers and parameters of a model by their names."""

import pytest
import torch

from tests.trainer.model.step_trainer import StepTrainer
from yolo_callbacks.trainer.model.layers import find_layers, is_compiled, parameter_parts, trainable_parameters


@pytest.fixture(scope="module")
def yolo():
    from ultralytics import YOLO

    trainer = StepTrainer()
    trainer.model = YOLO("yolo26n.yaml", verbose=False).model
    return trainer


def test_parts_of_a_yolo(yolo):
    parts = parameter_parts(yolo)
    by_number = {name.split(".")[1]: part for name, part in parts.items()}
    assert {by_number[str(i)] for i in range(11) if str(i) in by_number} == {"backbone"}
    assert {part for number, part in by_number.items() if 11 <= int(number) <= 22} == {"neck"}
    assert by_number["23"] == "head"
    assert set(parts) == set(dict(yolo.model.named_parameters()))


def test_parts_of_another_model_are_its_top_level_modules():
    assert set(parameter_parts(StepTrainer()).values()) == {"0", "2"}


def test_frozen_parameters_are_not_trained():
    trainer = StepTrainer()
    trainer.model[0].weight.requires_grad = False
    assert trainable_parameters(trainer) == ("0.bias", "2.weight", "2.bias")


def test_layers_by_name_pattern_and_number(yolo):
    assert find_layers(yolo, None) == ("model.16", "model.19", "model.22")
    assert find_layers(yolo, ["model.4", 4, -2]) == ("model.4", "model.22")
    assert find_layers(yolo, ["model.2.m.*.cv?"]) == ("model.2.m.0.cv1", "model.2.m.0.cv2")
    assert "model.0.act" not in find_layers(yolo, ["model.0*"])  # one SiLU serves all layers


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["modle.4"], r"'modle.4' is not a layer of this model \(did you mean 'model.4'\?\)"),
        (["model.9*.nothing"], "is not a layer of this model"),
        ([24], "layer 24 is not a layer of this model, which has 24: 0 to 23"),
        (["*"], "layers match .*, but at most 64 can be watched"),
        (["model.0.act"], "is one module in .* places"),
    ],
)
def test_layers_that_cannot_be_watched(yolo, wanted, message):
    with pytest.raises(ValueError, match=message):
        find_layers(yolo, wanted)


def test_a_model_that_does_not_tell_what_its_head_takes():
    with pytest.raises(ValueError, match="name the layers to watch"):
        find_layers(StepTrainer(), None)
    assert find_layers(StepTrainer(), ["1"]) == ("1",)


def test_a_compiled_model_is_told_apart():
    trainer = StepTrainer()
    trainer.model = torch.compile(trainer.model, backend="eager")
    assert is_compiled(trainer)
    assert not is_compiled(StepTrainer())
