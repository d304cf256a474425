"""Norms, shares and layers that stand out, of gradients that are made up."""

import math

import pytest
import torch

from yolo_callbacks.trainer.model import gradient_norms
from yolo_callbacks.trainer.model.gradient_norms import GradientNorms
from yolo_callbacks.trainer.model.gradient_watch import OptimizerStep

NAMES = ("a.weight", "a.bias", "b.weight")


class Steps:
    """Plays the trainer's part."""

    def __init__(self, groups=None):
        self.norms, self.number = GradientNorms(NAMES, groups or {}), 0

    def begin_epoch(self):
        self.number = 0
        self.norms.clear()

    def step(self, *values, clip_to=math.inf, scale=1.0, stepped=True, skipped=None):
        """Take a step whose gradients have these norms; None is a parameter without one."""
        self.number += 1
        gradients = {name: torch.tensor([value]) for name, value in zip(NAMES, values) if value is not None}
        scaled = {name: gradient * scale for name, gradient in gradients.items()}
        self.norms.look(OptimizerStep(self.number, scaled, torch.tensor(scale)))
        if stepped:
            total = math.sqrt(sum(float(gradient) ** 2 for gradient in gradients.values()))
            clipped = {name: gradient * min(1.0, clip_to / (total + 1e-6)) for name, gradient in gradients.items()}
            self.norms.look_at_clipped(OptimizerStep(self.number, clipped, torch.ones(())))
        self.norms.keep(stepped, None if skipped is None else torch.tensor(skipped))

    def take(self, factor=100.0):
        return self.norms.take(factor)


def test_the_mean_of_norms_not_the_norm_of_means():
    steps = Steps({"a": NAMES[:2], "b": NAMES[2:]})
    steps.step(3.0, 0.0, 4.0)
    steps.step(6.0, 8.0, 24.0)
    numbers = steps.take().numbers
    assert (numbers["norm"], numbers["norm_max"]) == pytest.approx(((5 + 26) / 2, 26))
    assert (numbers["a"], numbers["b"]) == pytest.approx(((3 + 10) / 2, (4 + 24) / 2))
    assert steps.take() is None


@pytest.mark.parametrize(("norms", "share"), [([1, 9.99], 0), ([1, 10.01], 0.5), ([11, 12, 13, 1], 0.75), ([1e9], 1)])
def test_the_share_of_clipped_steps(norms, share):
    steps = Steps()
    for norm in norms:
        steps.step(float(norm), 0.0, 0.0, clip_to=10.0)
    assert steps.take().numbers["clipped"] == share


def test_the_scale_of_mixed_precision_is_taken_out():
    steps = Steps()
    steps.step(3.0, 0.0, 4.0, scale=2.0**16, clip_to=10.0)
    numbers = steps.take().numbers
    assert (numbers["norm"], numbers["clipped"]) == (5.0, 0.0)


def test_steps_that_are_skipped_or_not_taken_do_not_count():
    steps = Steps()
    steps.step(3.0, 0.0, 4.0, skipped=False)
    steps.step(math.inf, 0.0, 4.0, skipped=True)
    steps.step(math.inf, 0.0, 4.0, skipped=True, stepped=False)
    steps.step(7.0, 0.0, 0.0, stepped=False)
    summary = steps.take()
    assert (summary.steps, summary.numbers["norm"]) == (1, 5.0)
    assert summary.exploding == []


def test_an_epoch_of_skipped_steps_alone_has_no_numbers():
    steps = Steps()
    steps.step(math.inf, 0.0, 0.0, skipped=True)
    assert steps.take() is None


def test_an_epoch_that_starts_again_counts_once():
    steps = Steps()
    steps.step(math.nan, math.nan, math.nan)
    steps.step(math.nan, math.nan, math.nan)
    steps.begin_epoch()
    steps.step(3.0, 0.0, 4.0)
    summary = steps.take()
    assert (summary.steps, summary.numbers["norm"], summary.exploding) == (1, 5.0, [])


def test_a_layer_is_dead_if_all_its_gradients_are_zero_in_every_step():
    steps = Steps()
    steps.step(0.0, 0.0, 0.0)
    steps.step(0.0, None, 1.0)
    assert steps.take().dead == ["a"]
    steps.begin_epoch()
    steps.step(0.0, 1e-30, 1.0)
    assert steps.take().dead == []


def test_a_layer_without_gradients_is_not_dead():
    steps = Steps()
    steps.step(None, None, 1.0)
    summary = steps.take()
    assert (summary.dead, summary.numbers["dead_layers"]) == ([], 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_explodes_and_is_not_hidden(value):
    steps = Steps()
    steps.step(1.0, 1.0, 1.0)
    steps.step(1.0, 1.0, value)
    steps.step(1.0, 1.0, 1.0)
    summary = steps.take()
    assert summary.exploding == ["b"]
    assert not math.isfinite(summary.numbers["norm"])
    assert not math.isfinite(summary.numbers["norm_max"])


def test_a_layer_explodes_beyond_its_own_usual_norm():
    steps = Steps()
    for _ in range(9):
        steps.step(1.0, 0.0, 1000.0)
    assert steps.take().exploding == []
    steps.begin_epoch()
    steps.step(50.0, 0.0, 1000.0)
    assert steps.take(factor=49.0).exploding == ["a"]
    steps.begin_epoch()
    steps.step(50.0, 0.0, 1000.0)
    assert steps.take(factor=51.0).exploding == []


def test_nothing_explodes_before_it_is_known_what_is_usual():
    steps = Steps()
    for value in (1e-6, 1e-6, 1.0):
        steps.step(value, 0.0, 1.0)
    assert steps.take().exploding == []


def test_numbers_do_not_depend_on_when_they_are_fetched(monkeypatch):
    summaries = []
    for at_most in (3, 1000):
        monkeypatch.setattr(gradient_norms, "_KEPT_ON_DEVICE", at_most)
        steps = Steps({"b": NAMES[2:]})
        for i in range(20):
            steps.step(float(i), None if i % 3 else 1.0, 0.5 * i, clip_to=10.0)
        summaries.append(vars(steps.take()))
    assert summaries[0] == summaries[1]
