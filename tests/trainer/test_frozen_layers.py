"""Freezing in models of other kinds than a YOLO, on a trainer of which only what is looked at is there."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from yolo_callbacks import SetFrozen
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.trainer.frozen_layers import FrozenLayers


class Model(nn.Module):
    """Layers side by side, as in a VGG with BatchNorm: names of some are in names of others."""

    def __init__(self, layers=12):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.BatchNorm2d(2) if index % 2 else nn.Conv2d(2, 2, 1) for index in range(layers))
        )
        self.head = nn.Linear(2, 1)


def trainer_of(model, own=(".dfl",)):
    core = getattr(model, "student_model", model)
    return SimpleNamespace(
        model=model, freeze_layer_names=list(own), optimizer=torch.optim.SGD(core.parameters(), lr=0.1, momentum=0.9)
    )


def state(*layers, frozen=True, factor=1.0):
    return FreezeState().after(SetFrozen("", layers=layers, frozen=frozen, lr_factor=factor))


def frozen_norms(trainer):
    """Return the BatchNorms that Ultralytics would put into eval, as its `_model_train` finds them."""
    return {
        name
        for name, module in trainer.model.named_modules()
        if any(filter(lambda word: word in name, trainer.freeze_layer_names)) and isinstance(module, nn.BatchNorm2d)
    }


def learns(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_names_on_the_list_freeze_these_statistics_and_no_others():
    trainer = trainer_of(Model())
    layers = FrozenLayers(trainer)
    layers.apply(state("features.[3-5]"))
    assert frozen_norms(trainer) == {"features.3", "features.5"}
    layers.apply(state("features"))
    assert trainer.freeze_layer_names == [".dfl", "features."]
    assert frozen_norms(trainer) == {f"features.{index}" for index in range(1, 12, 2)}


def test_a_name_that_is_in_the_name_of_another_layer_is_refused():
    trainer = trainer_of(Model())
    with pytest.raises(
        ValueError, match=r"'features\.1' cannot be frozen without the BatchNorm statistics of 'features\.11'"
    ):
        FrozenLayers(trainer).apply(state("features.1"))
    assert len(learns(trainer.model)) == 26  # nothing was frozen
    FrozenLayers(trainer).apply(state("features.1", "features.1?"))
    assert frozen_norms(trainer) == {"features.1", "features.11"}


def test_the_biases_alone_keep_no_statistics_and_a_norm_with_all_of_its_parameters_does():
    trainer = trainer_of(Model(layers=6))
    layers = FrozenLayers(trainer)
    layers.apply(state("*.bias"))
    assert frozen_norms(trainer) == set()
    assert {name for name in learns(trainer.model) if name.endswith("bias")} == set()
    layers.apply(state("features.1.weight", "features.1.bias"))
    assert frozen_norms(trainer) == {"features.1"}


def test_applying_twice_is_applying_once_and_nothing_is_left_at_last():
    trainer = trainer_of(Model(layers=6), own=["features.0.", ".dfl"])
    trainer.model.features[0].requires_grad_(False)
    before, layers = learns(trainer.model), FrozenLayers(trainer)
    for _ in range(2):
        layers.apply(state("features.[0-3]"))
        assert {name for name in before if name.startswith(("features.4", "features.5", "head"))} == learns(
            trainer.model
        )
        assert trainer.freeze_layer_names == ["features.0.", ".dfl", "features.1", "features.2.", "features.3"]
    layers.apply(state("features.[0-3]", frozen=False, factor=0.5))
    assert learns(trainer.model) == before
    assert trainer.freeze_layer_names == ["features.0.", ".dfl"]


def test_gradients_that_were_gathered_and_momentum_are_gone():
    trainer = trainer_of(Model(layers=2))
    weight = trainer.model.features[0].weight
    for _ in range(2):
        trainer.model.features(torch.ones(2, 2, 3, 3)).sum().backward()
        trainer.optimizer.step()
    assert weight in trainer.optimizer.state
    assert weight.grad is not None
    FrozenLayers(trainer).apply(state("features.0"))
    assert weight not in trainer.optimizer.state
    assert weight.grad is None
    assert trainer.model.features[1].weight in trainer.optimizer.state


def test_all_that_learns_cannot_be_frozen():
    trainer = trainer_of(Model(layers=2))
    trainer.model.head.requires_grad_(False)  # by the user
    with pytest.raises(ValueError, match="this would freeze every trainable layer"):
        FrozenLayers(trainer).apply(state("features"))


def test_ranks_whose_graph_may_not_change():
    """What Ultralytics sets with compile=True on several GPUs. PyTorch fails then when the layers learn again."""
    model = Model(layers=4)
    wrapped = nn.Module()
    wrapped.module, wrapped.find_unused_parameters = model, False
    trainer = trainer_of(wrapped)
    with pytest.raises(ValueError, match="compile=True"):
        FrozenLayers(trainer).apply(state("features.0"))
    wrapped.find_unused_parameters = True
    FrozenLayers(trainer).apply(state("features.0"))
    assert "features.0.weight" not in learns(model)


def test_a_student_is_named_as_if_it_had_no_teacher():
    both = nn.Module()
    both.student_model, both.teacher_model = Model(layers=4), Model(layers=4).requires_grad_(False)
    trainer = trainer_of(both, own=[".dfl", "teacher_model."])
    layers = FrozenLayers(trainer)
    assert "features.0.weight" in layers.names.parameters
    layers.apply(state("features"))
    assert learns(both) == {"student_model.head.weight", "student_model.head.bias"}
    layers.apply(state("features", frozen=False))
    assert learns(both) == {f"student_model.{name}" for name in learns(both.student_model)}
    assert not any(parameter.requires_grad for parameter in both.teacher_model.parameters())


def test_a_model_that_comes_without_a_list():
    trainer = trainer_of(Model(layers=2))
    del trainer.freeze_layer_names
    FrozenLayers(trainer).apply(state("features"))
    assert trainer.freeze_layer_names == ["features."]


def test_without_a_decision_nothing_is_looked_at():
    FrozenLayers(None).apply(FreezeState())
