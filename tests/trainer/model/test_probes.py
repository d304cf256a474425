"""Probes on the trainer's own optimizer_step, with a real optimizer, a real GradScaler and no training around them."""

import copy
import gc
import weakref
from collections import defaultdict

import pytest
import torch
from torch import nn
from ultralytics.engine.trainer import BaseTrainer

from yolo_callbacks.trainer.model.layers import find_layers, is_compiled, parameter_parts, trainable_parameters
from yolo_callbacks.trainer.model.probes import Probes

SCALE = 2.0**14


class Trainer:
    """The part of Ultralytics' trainer that takes a step."""

    optimizer_step = BaseTrainer.optimizer_step

    def __init__(self, amp=False, fused=False):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=fused)
        self.device = torch.device("cpu")
        self.scaler = torch.amp.GradScaler("cpu", enabled=amp, init_scale=SCALE)
        self.ema = None
        self.callbacks = defaultdict(list)

    def batch(self, size=1.0, step=True):
        for function in self.callbacks["on_train_batch_start"]:
            function(self)
        loss = self.model(torch.full((2, 3), size)).square().sum()
        self.scaler.scale(loss).backward()
        if step:
            self.optimizer_step()


class Seen:
    """Keeps all that a watch is told."""

    def __init__(self, trainer, every=1, who="Test"):
        self.numbers, self.norms, self.clipped, self.done = [], [], [], []
        self.probes = Probes(trainer)
        self.watch = self.probes.watch_gradients(who, self._look, every, self._look_at_clipped, self._done)

    def _look(self, step):
        self.numbers.append(step.number)
        self.norms.append(total(step.gradients.values()) / float(step.scale))

    def _look_at_clipped(self, step):
        self.clipped.append(total(step.gradients.values()) / float(step.scale))

    def _done(self, stepped, skipped):
        self.done.append((stepped, None if skipped is None else bool(skipped)))


def total(tensors):
    return float(torch.linalg.vector_norm(torch.cat([tensor.double().flatten() for tensor in tensors])))


@pytest.fixture
def clip_returns(monkeypatch):
    """What PyTorch's own clipping says of each step."""
    returned, clip = [], torch.nn.utils.clip_grad_norm_

    def recorded(*args, **kwargs):
        norm = clip(*args, **kwargs)
        returned.append(float(norm))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
    return returned


KINDS = {
    "plain": {},
    "AMP": {"amp": True},
    "AMP and an optimizer that skips by itself": {"amp": True, "fused": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_that_clipping_itself_finds(kind, clip_returns):
    trainer = Trainer(**KINDS[kind])
    seen = Seen(trainer)
    for size in (0.1, 1.0, 30.0, 1000.0):
        trainer.batch(size)
    assert seen.norms == pytest.approx(clip_returns, rel=1e-6)
    assert seen.clipped == pytest.approx([min(norm, 10.0) for norm in clip_returns], rel=1e-5)
    assert min(clip_returns) < 10 < max(clip_returns)
    assert seen.done == [(True, False if trainer.scaler.is_enabled() else None)] * 4


@pytest.mark.parametrize("kind", list(KINDS)[1:])
def test_a_step_that_is_skipped_is_told_and_counted_also_where_nobody_looks(kind):
    trainer = Trainer(**KINDS[kind])
    seen = Seen(trainer, every=3)
    seen.probes.begin_epoch()
    for size in (1.0, float("inf"), 1.0, float("inf"), float("nan"), 1.0, 1.0):
        trainer.batch(size)
    assert seen.numbers == [1, 4, 7]
    assert [skipped for _, skipped in seen.done] == [False, True, False]
    assert seen.watch.skipped_steps() == 3
    assert trainer.scaler.get_scale() == SCALE / 8
    seen.probes.begin_epoch()
    assert seen.watch.skipped_steps() == 0


def test_gradients_are_those_of_all_batches_of_a_step(clip_returns):
    trainer = Trainer()
    seen = Seen(trainer)
    for _ in range(3):
        trainer.batch(0.3, step=False)
        trainer.batch(0.4)
    assert seen.numbers == [1, 2, 3]
    assert seen.norms == pytest.approx(clip_returns, rel=1e-6)


def test_the_first_step_of_every_epoch_is_looked_at():
    trainer = Trainer()
    seen = Seen(trainer, every=4)
    for _ in range(2):
        seen.probes.begin_epoch()
        for _ in range(6):
            trainer.batch()
    assert seen.numbers == [1, 5, 1, 5]


def test_frozen_and_unused_parameters_are_left_out():
    trainer, names = Trainer(), []
    trainer.model[0].weight.requires_grad = False
    trainer.model.unused = nn.Linear(1, 1)
    trainer.model.unused.forward = lambda x: x
    Probes(trainer).watch_gradients("Test", lambda step: names.extend(step.gradients), 1)
    trainer.batch()
    assert names == ["0.bias", "2.weight", "2.bias"]


def test_a_watch_changes_nothing():
    with_watch, without = Trainer(amp=True), Trainer(amp=True)
    Seen(with_watch)
    for trainer in (with_watch, without):
        for size in (1.0, 50.0, float("inf"), 1.0):
            trainer.batch(size)
    assert with_watch.scaler.state_dict() == without.scaler.state_dict()
    for one, other in zip(with_watch.model.parameters(), without.model.parameters()):
        assert torch.equal(one, other)


def test_a_trainer_that_clips_otherwise_or_takes_no_step():
    class Own(Trainer):
        calls = 0

        def optimizer_step(self):
            self.calls += 1
            if self.calls % 2 == 0:
                torch.nn.utils.clip_grad_value_(self.model.parameters(), 1e-3)
                self.optimizer.step()
                self.optimizer.zero_grad()
            return self.calls

    trainer = Own()
    seen = Seen(trainer)
    trainer.batch()
    trainer.batch()
    assert [stepped for stepped, _ in seen.done] == [False, True]
    assert len(seen.clipped) == 1 and seen.clipped[0] < seen.norms[1]
    assert trainer.optimizer_step() == 3


def test_a_new_optimizer_in_the_middle_of_a_run_is_seen(clip_returns):
    trainer = Trainer()
    seen = Seen(trainer)
    trainer.batch()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.01)
    trainer.batch()
    assert seen.clipped == pytest.approx([min(norm, 10) for norm in clip_returns], rel=1e-5)
    assert len(seen.done) == 2


# ---------------------------------------------------------------------------------------------- removal and errors


def traces(trainer):
    """Return all that a probe could leave behind."""
    hooks = [
        hook for module in trainer.model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)
    ]
    own = [name for name in vars(trainer) if name.endswith("_step")]
    return [*own, *hooks, *trainer.optimizer._optimizer_step_pre_hooks, *trainer.callbacks["on_train_batch_start"]]


def test_nothing_is_left_when_all_watches_are_removed():
    trainer = Trainer()
    probes = Probes(trainer)
    probes.watch_gradients("A", lambda step: None, 1)
    first = probes.watch_gradients("B", lambda step: None, 1, lambda step: None)
    probes.watch_activations("C", ["0"], lambda *_: None, 1)
    trainer.batch()
    first.remove()
    first.remove()
    assert "optimizer_step" in vars(trainer)
    probes.remove()
    probes.remove()
    assert traces(trainer) == []
    trainer.batch()


def test_the_trainer_can_go_when_the_watches_are_removed():
    trainer = Trainer()
    seen = Seen(trainer)
    trainer.batch()
    seen.probes.remove()
    gone = weakref.ref(trainer.model)
    del trainer, seen
    gc.collect()
    assert gone() is None


def test_a_method_that_the_trainer_had_of_its_own_comes_back():
    trainer = Trainer()
    calls, plain = [], trainer.optimizer_step
    trainer.optimizer_step = mine = lambda: (calls.append(1), plain())
    seen = Seen(trainer)
    trainer.batch()
    seen.watch.remove()
    assert trainer.optimizer_step is mine
    assert (calls, len(seen.norms)) == ([1], 1)


def test_somebody_who_wraps_ours_can_stay_and_a_new_watch_works():
    trainer = Trainer()
    seen = Seen(trainer)
    ours, calls = trainer.optimizer_step, []
    trainer.optimizer_step = theirs = lambda: (calls.append(1), ours())
    seen.watch.remove()
    trainer.batch()
    assert trainer.optimizer_step is theirs
    again = []
    seen.probes.watch_gradients("Again", lambda step: again.append(step.number), 1)
    trainer.batch()
    assert (len(calls), len(seen.norms), len(again)) == (2, 0, 1)


@pytest.mark.parametrize("where", ["look", "clipped", "done"])
def test_an_error_is_told_once_and_the_step_is_taken(where, said):
    def fail(*_):
        raise RuntimeError("no such gradient")

    trainer, plain = Trainer(), Trainer()
    functions = {"look": lambda step: None, "clipped": None, "done": None, where: fail}
    watch = Probes(trainer).watch_gradients("Mine", functions["look"], 1, functions["clipped"], functions["done"])
    for _ in range(2):
        trainer.batch()
        plain.batch()
    assert said.warnings == ["Mine failed; training continues: RuntimeError: no such gradient"]
    assert not watch.active
    assert traces(trainer) == []
    assert torch.equal(trainer.model[0].weight, plain.model[0].weight)


def test_an_error_of_the_step_itself_comes_out_and_leaves_no_hook():
    trainer = Trainer()
    seen = Seen(trainer)

    def fail(*_):
        raise KeyboardInterrupt

    handle = trainer.optimizer.register_step_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        trainer.batch()
    handle.remove()
    seen.probes.remove()
    assert traces(trainer) == []


# ---------------------------------------------------------------------------------------------- activations


def test_outputs_of_chosen_layers_in_sampled_batches():
    trainer, seen, begun = Trainer(), [], []
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
    trainer, during = Trainer(), []
    Probes(trainer).watch_activations("Test", ["0"], lambda *_: during.append(len(trainer.model[0]._forward_hooks)), 1)
    trainer.batch()
    assert during == [1]
    assert not trainer.model[0]._forward_hooks and not trainer.model._forward_hooks
    copy.deepcopy(trainer.model)


def test_what_a_batch_left_that_ran_out_of_memory_is_taken_off():
    trainer = Trainer()
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

    trainer = Trainer()
    watch = Probes(trainer).watch_activations("Mine", ["0", "1"], fail, 1)
    trainer.batch()
    trainer.batch()
    assert said.warnings == ["Mine failed; training continues: ValueError: odd output"]
    assert not watch.active
    assert traces(trainer) == []


# ---------------------------------------------------------------------------------------------- names


@pytest.fixture(scope="module")
def yolo():
    from ultralytics import YOLO

    trainer = Trainer()
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
    assert set(parameter_parts(Trainer()).values()) == {"0", "2"}


def test_frozen_parameters_are_not_trained():
    trainer = Trainer()
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
        find_layers(Trainer(), None)
    assert find_layers(Trainer(), ["1"]) == ("1",)


def test_gradients_of_a_compiled_model_are_seen_under_the_same_names():
    trainer, names = Trainer(), []
    trainer.model = torch.compile(trainer.model, backend="eager")
    assert is_compiled(trainer)
    assert not is_compiled(Trainer())
    Probes(trainer).watch_gradients("Test", lambda step: names.extend(step.gradients), 1)
    trainer.batch()
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]
