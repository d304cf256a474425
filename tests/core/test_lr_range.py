"""What a range test tries, when it ends, and what it suggests."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks.core.lr_range import MODES, Divergence, auto_choice, rate_at, smoothed, suggest

NAN = math.nan


def curve(center, *, steps=100, sharp=2.0, noise=()):
    """Return rates, and losses that fall fastest at 10 ** center and explode two powers later."""
    lrs = [rate_at(step, steps, 1e-6, 1.0, "exponential") for step in range(steps)]
    losses = []
    for number, lr in enumerate(lrs):
        x = math.log10(lr) - center
        fall = 5 - 4 / (1 + math.exp(-2 * sharp * x))
        losses.append(fall + max(0.0, x - 1.5) * 8 + (noise[number % len(noise)] if noise else 0.0))
    return lrs, losses


@settings(max_examples=40)
@given(
    center=st.floats(-4.5, -2.0),
    noise=st.lists(st.floats(-0.05, 0.05), min_size=7, max_size=100),
    scale=st.floats(0.1, 100),
)
def test_the_suggestion_is_where_the_loss_falls_fastest(center, noise, scale):
    lrs, losses = curve(center, noise=noise)
    found = suggest(lrs, [scale * loss for loss in losses])
    assert abs(math.log10(found.lr) - center) < 0.5
    assert lrs[0] < found.lr < lrs[losses.index(min(losses))]


@settings(max_examples=40)
@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(NAN), st.just(math.inf)), max_size=60))
def test_any_curve_has_a_sentence(losses):
    lrs = [rate_at(step, 60, 1e-6, 1.0, "exponential") for step in range(60)]
    found = suggest(lrs, losses)
    assert found.why
    assert found.lr is None or 1e-6 <= found.lr <= 1.0


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([3.0] * 100, "does not fall by more than its noise"),
        ([3.0 + 0.1 * (-1) ** step for step in range(100)], "does not fall by more than its noise"),
        ([3.0 + step for step in range(100)], "does not fall by more than its noise"),
        ([1 / (1 + step**3) for step in range(100)], "falls fastest at the lowest rates; lower min_lr"),
        ([9.0 - (step / 99) ** 8 for step in range(100)], "falls fastest at the highest rates; raise max_lr"),
        ([3.0] * 10 + [NAN] * 90, "the loss was finite in only 10 steps"),
    ],
)
def test_a_curve_without_a_clear_suggestion(losses, why):
    found = suggest([rate_at(step, 100, 1e-6, 1.0, "exponential") for step in range(100)], losses)
    assert found.lr is None
    assert why in found.why


@settings(max_examples=40)
@given(steps=st.integers(20, 300), low=st.floats(1e-9, 1e-3), high=st.floats(1e-2, 10), mode=st.sampled_from(MODES))
def test_the_rates_rise_from_the_first_to_the_last(steps, low, high, mode):
    rates = [rate_at(step, steps, low, high, mode) for step in range(steps)]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (pytest.approx(low), pytest.approx(high))


def after(losses, threshold=4.0):
    state = Divergence(threshold)
    for count, loss in enumerate(losses, 1):
        state = state.after(loss)
        if state.diverged:
            return count
    return None


def test_a_loss_diverges():
    assert after([1.0, 2.0, 1.0] * 20) is None
    assert after([1.0] * 10 + [NAN]) == 11
    assert after([1.0] * 10 + [math.inf]) == 11
    assert after([NAN], threshold=None) == 1
    assert after([1.0] * 10 + [100.0] * 5) == 11
    assert after([1.0] * 10 + [100.0] * 5, threshold=None) is None


def test_means_of_neighbors():
    assert smoothed([5.0] * 40) == [5.0] * 40
    assert smoothed([0.0] * 20 + [1.0] * 20)[18:22] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_what_auto_chooses():
    assert auto_choice(images=64 * 1001, batch=16, nbs=64, epochs=10, classes=80).optimizer == "MuSGD"
    assert auto_choice(images=64 * 1000, batch=16, nbs=64, epochs=10, classes=80).optimizer == "AdamW"
    assert auto_choice(images=128 * 1001, batch=128, nbs=64, epochs=10, classes=80).lr0 == 0.01
