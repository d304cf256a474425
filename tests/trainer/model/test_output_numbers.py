"""Numbers of outputs, against NumPy on all values together."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.trainer.model import output_numbers
from yolo_callbacks.trainer.model.output_numbers import OutputNumbers

values = st.floats(-100, 100, width=32)
batches = st.lists(st.lists(values, min_size=1, max_size=9), min_size=1, max_size=5)


@given(batches)
def test_batches_are_put_together_as_if_they_were_one(batches):
    outputs = OutputNumbers(zero_below=1.0)
    for number, batch in enumerate(batches, 1):
        outputs.look(number, "layer", torch.tensor(batch))
    together = np.concatenate([np.array(batch, dtype=np.float32) for batch in batches]).astype(float)
    numbers = outputs.take()["layer"]
    assert numbers["mean"] == pytest.approx(together.mean(), rel=1e-4, abs=1e-4)
    assert numbers["std"] == pytest.approx(together.std(), rel=1e-4, abs=1e-4)
    assert numbers["zero_share"] == pytest.approx((abs(together) <= 1).mean())
    assert numbers["non_finite"] == 0


def test_what_is_not_finite_is_counted_and_left_out_of_the_rest():
    outputs = OutputNumbers(0.0)
    outputs.look(1, "layer", torch.tensor([1.0, float("nan"), 3.0, float("inf"), 0.0, -float("inf")]))
    numbers = outputs.take()["layer"]
    assert numbers["non_finite"] == 3
    assert (numbers["mean"], numbers["std"]) == pytest.approx((4 / 3, np.std([1, 3, 0])))
    assert numbers["zero_share"] == pytest.approx(1 / 6)


def test_nothing_but_nan():
    outputs = OutputNumbers(0.0)
    outputs.look(1, "layer", torch.full((1, 2, 1, 1), float("nan")))
    numbers = outputs.take()["layer"]
    assert numbers["non_finite"] == 2
    assert np.isnan(numbers["mean"]) and np.isnan(numbers["std"])
    assert numbers["dead_channels"] == 0


def test_a_channel_is_dead_if_it_was_never_active():
    outputs = OutputNumbers(0.001)
    first, second = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    first[1, 0, 2, 2] = -0.5
    second[0, 1, 0, 0] = 0.0009
    outputs.look(1, "layer", first)
    outputs.look(2, "layer", second)
    assert outputs.take()["layer"]["dead_channels"] == 2


@pytest.mark.parametrize("output", [torch.rand(2, 5, 3), [torch.rand(1, 2, 3, 3), {"x": torch.rand(1, 2, 3, 3)}]])
def test_there_are_no_channels_in_other_outputs(output):
    outputs = OutputNumbers(0.0)
    outputs.look(1, "layer", output)
    assert set(outputs.take()["layer"]) == {"mean", "std", "zero_share", "non_finite"}


def test_no_channels_where_their_number_changes():
    outputs = OutputNumbers(0.0)
    for batch, channels in ((1, 2), (2, 3), (3, 3)):
        outputs.look(batch, "layer", torch.rand(1, channels, 2, 2))
    assert "dead_channels" not in outputs.take()["layer"]


def test_halves_and_what_is_no_number_at_all():
    outputs = OutputNumbers(0.0)
    outputs.look(1, "layer", (torch.full((1, 1, 300, 300), 300.0, dtype=torch.half), torch.tensor([1]), None, "x"))
    assert outputs.take()["layer"]["mean"] == pytest.approx(300)
    outputs.look(1, "layer", None)
    assert outputs.take() == {}


def test_numbers_do_not_depend_on_when_they_are_fetched(monkeypatch):
    taken = []
    for at_most in (2, 1000):
        monkeypatch.setattr(output_numbers, "_KEPT_ON_DEVICE", at_most)
        outputs = OutputNumbers(0.5)
        for batch in range(1, 8):
            outputs.look(batch, "layer", torch.arange(batch).float())
        taken.append(outputs.take())
    assert taken[0] == taken[1]
