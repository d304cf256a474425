"""What is seen of the outputs of layers, with hooks that are on the model only meanwhile."""

import copy

import pytest
import torch
from torch import nn

from tests.trainer.model.step_trainer import StepTrainer, traces
from yolo_callbacks.trainer.model.probes import Probes


def test_outputs_of_chosen_layers_in_sampled_batches():
    trainer, seen, begun = StepTrainer(), [], []
    outputs = []
    trainer.model[0].register_forward_hook(lambda module, inputs, output: outputs.append(output.detach().clone()))
    probes = Probes(trainer)
    probes.watch_activations("Test", ["0", "1"], lambda *look: seen.append(look), 2, lambda: begun.append(1))
    for size in (1.0, 2.0, 3.0):
        trainer.batch(size)
    assert [(batch, layer) for batch, layer, _ in seen] == [(1, "0"), (1, "1"), (3, "0"), (3, "1")]
    assert torch.equal(seen[2][2], outputs[2])
    assert torch.equal(seen[3][2], nn.functional.silu(outputs[2]))
    probes.begin_epoch()
    trainer.batch()
    assert seen[-1][0] == 1
    assert begun == [1]


def test_hooks_are_on_the_model_only_while_a_batch_goes_through():
    trainer, during = StepTrainer(), []
    Probes(trainer).watch_activations("Test", ["0"], lambda *_: during.append(len(trainer.model[0]._forward_hooks)), 1)
    trainer.batch()
    assert during == [1]
    assert not trainer.model[0]._forward_hooks and not trainer.model._forward_hooks
    copy.deepcopy(trainer.model)


def test_what_a_batch_left_that_ran_out_of_memory_is_taken_off():
    trainer = StepTrainer()
    probes = Probes(trainer)
    seen = []
    probes.watch_activations("Test", ["0"], lambda batch, *_: seen.append(batch), 1)

    def fail(*_):
        raise RuntimeError("CUDA out of memory")

    handle = trainer.model[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError):
        trainer.batch()
    handle.remove()
    assert trainer.model[0]._forward_hooks
    probes.begin_epoch()
    assert not trainer.model[0]._forward_hooks
    trainer.batch()
    assert seen == [1, 1]
    assert not trainer.model[0]._forward_hooks


def test_an_error_in_a_look_at_outputs_is_told_once_and_the_batch_goes_on(said):
    def fail(*_):
        raise ValueError("odd output")

    trainer = StepTrainer()
    watch = Probes(trainer).watch_activations("Mine", ["0", "1"], fail, 1)
    trainer.batch()
    trainer.batch()
    assert said.warnings == ["Mine failed; training continues: ValueError: odd output"]
    assert not watch.active
    assert traces(trainer) == []
