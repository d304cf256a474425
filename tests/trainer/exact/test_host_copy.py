import numpy as np
import pytest
import torch

from yolo_callbacks.trainer.exact.host_copy import HostCopy, UnknownKindError


def test_a_copy_stays_as_it_is_and_has_python_numbers():
    weights = torch.arange(4.0, requires_grad=True)
    source = {"w": weights, "list": [np.float64(0.5), None, ("x", torch.tensor(3))], 7: {"bool": np.bool_(True)}}
    copy = HostCopy().take(source)
    with torch.no_grad():
        weights.zero_()
    assert copy["w"].tolist() == [0, 1, 2, 3]
    assert not copy["w"].requires_grad
    assert copy["list"] == [0.5, None, ("x", torch.tensor(3))]
    assert type(copy["list"][0]) is float
    assert copy[7] == {"bool": True}


def test_memory_is_used_again_where_it_fits():
    copies = HostCopy()
    first = copies.take({"a": torch.zeros(3), "b": torch.zeros(2)})
    second = copies.take({"a": torch.ones(3), "b": torch.ones(5)})
    assert first["a"] is second["a"]
    assert first["a"].tolist() == [1, 1, 1]
    assert second["b"].tolist() == [1] * 5


def test_strides_are_kept():
    nhwc = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    copy = HostCopy().take({"x": nhwc})["x"]
    assert copy.stride() == nhwc.stride()
    assert torch.equal(copy, nhwc)


def test_anything_else_is_refused():
    with pytest.raises(UnknownKindError, match="its state holds a object, which cannot be saved"):
        HostCopy().take({"optimizer": [object()]})
