"""The graph is that of the model at the time, and neither the model nor the process notices."""

import warnings

import pytest
import torch
from torch import nn

from yolo_callbacks.trainer.model.graph import prepare_graph


class Head(nn.Module):
    """Has outputs in training that cannot be traced, as Ultralytics' heads have."""

    export, format = False, None

    def forward(self, x):
        int(x.shape[0])  # is warned of where it is traced
        return x.mean((2, 3)) if self.export and self.format == "torchscript" else {"not": {"for": [1, {2}]}}


@pytest.fixture(autouse=True)
def _filters():
    """Put the process's warning filters back."""
    with warnings.catch_warnings():
        yield


def model_of(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5), Head())


def test_the_model_is_left_as_it_was():
    model = model_of().half().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepare_graph(model, 3, 64)()
    assert all(module.training for module in model.modules())
    assert not model[3].export
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_it_is_the_model_at_the_time_whenever_it_is_traced():
    model = model_of()
    image = torch.rand(1, 3, 32, 32)
    weight = model[0].weight.detach().clone()
    trace = prepare_graph(model, 3, 32)
    with torch.no_grad():
        model[0].weight.zero_()
    traced = trace()
    expected = nn.functional.conv2d(image, weight).mean((2, 3))  # a fresh BatchNorm changes nothing
    assert torch.allclose(traced(image), expected, atol=1e-4)
    assert not any(parameter.is_cuda for parameter in traced.parameters())


@pytest.mark.parametrize(("imgsz", "side"), [(32, 32), (128, 128), (640, 128)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_input_is_not_traced_as_it_is(imgsz, side, channels):
    sizes, model = [], model_of(channels)

    class Look(nn.Module):
        def forward(self, x):
            sizes.append(tuple(map(int, x.shape)))
            return x

    prepare_graph(nn.Sequential(Look(), model), channels, imgsz)()
    assert sizes == [(1, channels, side, side)]  # once: a check would reset the random state meanwhile


def test_the_training_draws_the_same_random_numbers_and_nothing_is_warned_of():
    trace = prepare_graph(model_of(), 3, 32)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as warned:  # keeps the filters that are set
        trace()
    assert torch.equal(torch.get_rng_state(), state)
    assert warned == []
    assert torch.is_grad_enabled()
