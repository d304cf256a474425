"""What is seen of gradients on the trainer's own optimizer_step, and that nothing changes by it."""

import pytest
import torch
from torch import nn

from tests.trainer.model.step_trainer import SCALE, StepTrainer, record_clipping, total, traces
from yolo_callbacks.trainer.model.probes import Probes


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


@pytest.fixture
def clip_returns(monkeypatch):
    return record_clipping(monkeypatch)


KINDS = {
    "plain": {},
    "AMP": {"amp": True},
    "AMP and an optimizer that skips by itself": {"amp": True, "fused": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_that_clipping_itself_finds(kind, clip_returns):
    trainer = StepTrainer(**KINDS[kind])
    seen = Seen(trainer)
    for size in (0.1, 1.0, 30.0, 1000.0):
        trainer.batch(size)
    assert seen.norms == pytest.approx(clip_returns, rel=1e-6)
    assert seen.clipped == pytest.approx([min(norm, 10.0) for norm in clip_returns], rel=1e-5)
    assert min(clip_returns) < 10 < max(clip_returns)
    assert seen.done == [(True, False if trainer.scaler.is_enabled() else None)] * 4


@pytest.mark.parametrize("kind", list(KINDS)[1:])
def test_a_step_that_is_skipped_is_told_and_counted_also_where_nobody_looks(kind):
    trainer = StepTrainer(**KINDS[kind])
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
    trainer = StepTrainer()
    seen = Seen(trainer)
    for _ in range(3):
        trainer.batch(0.3, step=False)
        trainer.batch(0.4)
    assert seen.numbers == [1, 2, 3]
    assert seen.norms == pytest.approx(clip_returns, rel=1e-6)


def test_the_first_step_of_every_epoch_is_looked_at():
    trainer = StepTrainer()
    seen = Seen(trainer, every=4)
    for _ in range(2):
        seen.probes.begin_epoch()
        for _ in range(6):
            trainer.batch()
    assert seen.numbers == [1, 5, 1, 5]


def test_frozen_and_unused_parameters_are_left_out():
    trainer, names = StepTrainer(), []
    trainer.model[0].weight.requires_grad = False
    trainer.model.unused = nn.Linear(1, 1)
    trainer.model.unused.forward = lambda x: x
    Probes(trainer).watch_gradients("Test", lambda step: names.extend(step.gradients), 1)
    trainer.batch()
    assert names == ["0.bias", "2.weight", "2.bias"]


def test_a_watch_changes_nothing():
    with_watch, without = StepTrainer(amp=True), StepTrainer(amp=True)
    Seen(with_watch)
    for trainer in (with_watch, without):
        for size in (1.0, 50.0, float("inf"), 1.0):
            trainer.batch(size)
    assert with_watch.scaler.state_dict() == without.scaler.state_dict()
    for one, other in zip(with_watch.model.parameters(), without.model.parameters()):
        assert torch.equal(one, other)


def test_a_trainer_that_clips_otherwise_or_takes_no_step():
    class Own(StepTrainer):
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
    trainer = StepTrainer()
    seen = Seen(trainer)
    trainer.batch()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.01)
    trainer.batch()
    assert seen.clipped == pytest.approx([min(norm, 10) for norm in clip_returns], rel=1e-5)
    assert len(seen.done) == 2


def test_gradients_of_a_compiled_model_are_seen_under_the_same_names():
    trainer, names = StepTrainer(), []
    trainer.model = torch.compile(trainer.model, backend="eager")
    Probes(trainer).watch_gradients("Test", lambda step: names.extend(step.gradients), 1)
    trainer.batch()
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_method_that_the_trainer_had_of_its_own_comes_back():
    trainer = StepTrainer()
    calls, plain = [], trainer.optimizer_step
    trainer.optimizer_step = mine = lambda: (calls.append(1), plain())
    seen = Seen(trainer)
    trainer.batch()
    seen.watch.remove()
    assert trainer.optimizer_step is mine
    assert (calls, len(seen.norms)) == ([1], 1)


def test_somebody_who_wraps_ours_can_stay_and_a_new_watch_works():
    trainer = StepTrainer()
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

    trainer, plain = StepTrainer(), StepTrainer()
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
    trainer = StepTrainer()
    seen = Seen(trainer)

    def fail(*_):
        raise KeyboardInterrupt

    handle = trainer.optimizer.register_step_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        trainer.batch()
    handle.remove()
    seen.probes.remove()
    assert traces(trainer) == []
