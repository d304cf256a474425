"""Samples of tensors: bounded, evenly spaced, and copies."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.trainer.model.tensor_sample import sample


@given(st.integers(0, 300), st.integers(1, 50))
def test_values_are_evenly_spaced_and_none_comes_twice(length, most):
    values = sample({"a": torch.arange(length)}, most)["a"].tolist()
    assert len(values) == min(length, most)
    gaps = np.diff(values)
    if length <= most:
        assert values == list(range(length))
    else:
        assert values[0] == 0
        assert length - values[-1] <= -(-length // most)
        assert set(gaps) <= {length // most, -(-length // most)}


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 20), max_size=6), st.integers(1, 10))
def test_each_tensor_has_its_own_values(sizes, most):
    tensors = {name: torch.full((size,), float(number)) for number, (name, size) in enumerate(sizes.items())}
    found = sample(tensors, most)
    assert {name: values.tolist() for name, values in found.items()} == {
        name: [float(number)] * min(size, most) for number, (name, size) in enumerate(sizes.items())
    }


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.tensor(3), [3]),
        (torch.tensor([[1, 2], [3, 4]]).T, [1, 3, 2, 4]),
        (torch.tensor([1.5, -2], dtype=torch.float16), [1.5, -2]),
        (torch.tensor([1.5, -2], dtype=torch.bfloat16), [1.5, -2]),
        (torch.tensor([True, False]), [1, 0]),
        (torch.nn.Parameter(torch.ones(2)), [1, 1]),
    ],
)
def test_any_tensor_becomes_float32(tensor, expected):
    values = sample({"a": tensor}, 10)["a"]
    assert values.dtype == np.float32
    assert values.tolist() == expected


def test_a_later_change_of_the_tensor_does_not_show():
    tensor = torch.ones(3)
    values = sample({"a": tensor}, 10)["a"]
    tensor.zero_()
    assert values.tolist() == [1, 1, 1]


def test_all_are_copied_from_the_device_at_once(monkeypatch):
    copied, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copied.append(len(tensor)) or cpu(tensor))
    sample({"a": torch.ones(8), "b": torch.ones(2), "c": torch.ones(0)}, 5)
    assert copied == [7]
