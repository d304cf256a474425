"""How the outputs of an exported file are compared with those of its model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from yolo_callbacks.exports.outputs import agreements, settle
from yolo_callbacks.exports.verdict import outputs_verdict

DENSE = arrays(np.float64, (1, 6, 20), elements=st.floats(0.1, 1000))


def judged(found, *, finite=True, reduced=False):
    return outputs_verdict({"outputs": {"finite": finite, "agreements": found, "reduced": reduced}})


@given(DENSE, st.floats(-0.001, 0.001))
def test_outputs_that_differ_by_noise_agree(output, noise):
    (found,) = agreements([output * (1 + noise)], [output])
    assert found == {"shape": [1, 6, 20], "agreement": 1.0, "chosen": False}
    assert judged([found]) == (None, None)


@given(DENSE, st.integers(0, 5), st.sampled_from([0.5, 1.1, -1.0]))
def test_one_wrong_channel_is_found_however_small_its_numbers(output, channel, factor):
    output = output.copy()
    output[:, channel] = 1e-4 * output[:, channel] / output[:, channel].max()
    wrong = output.copy()
    wrong[:, channel] *= factor
    (found,) = agreements([wrong], [output])
    assert found["agreement"] < 1
    if (output[:, channel] > 0.5e-4).mean() > 0.5:
        error, _ = judged([found])
        assert error.startswith("only ")
        assert "of its output of shape 1x6x20 agrees" in error


@given(st.permutations(range(12)), st.integers(0, 12))
def test_chosen_detections_may_come_in_another_order_and_half_of_them_may_differ(order, others):
    rows = np.arange(72, dtype=float).reshape(1, 12, 6) + 1
    mine = rows[:, order].copy()
    mine[:, :others] += 1000
    (found,) = agreements([mine], [rows], end2end=True)
    assert found == {"shape": [1, 12, 6], "agreement": (12 - others) / 12, "chosen": True}
    assert (judged([found])[0] is None) == (others <= 6)


def test_each_output_is_compared_with_the_first_one_of_its_shape():
    boxes, masks, more = np.ones((1, 6, 20)), np.full((1, 8, 4, 4), 2.0), np.full((1, 6, 20), 3.0)
    found = agreements([masks, boxes], [boxes, more, masks])
    assert [(item["shape"], item["agreement"]) for item in found] == [([1, 8, 4, 4], 1.0), ([1, 6, 20], 1.0)]
    assert agreements([np.ones((1, 20, 6))], [boxes]) == []
    labels = np.array([[[0, 1], [2, 3]]])
    assert agreements([labels], [labels]) == [{"shape": [1, 2, 2], "agreement": 1.0, "chosen": True}]
    (found,) = agreements([np.full((1, 6, 20), np.nan)], [boxes])
    assert found["agreement"] == 0


@pytest.mark.parametrize(
    ("outcome", "error", "note"),
    [
        (judged([], finite=False), "NaN or infinite", None),
        (judged([{"shape": [1], "agreement": 0.0, "chosen": False}], reduced=True), None, "precision is reduced"),
        (judged([]), None, "arranges them in its own way"),
        (outputs_verdict({"error": "it broke"}), "it broke", None),
    ],
)
def test_what_cannot_be_compared(outcome, error, note):
    for found, expected in zip(outcome, (error, note)):
        assert found is expected is None or expected in found


def test_signals_of_an_untrained_model_do_not_fade_and_its_weights_stay():
    layers = [layer for _ in range(8) for layer in (torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.BatchNorm2d(3))]
    model = torch.nn.Sequential(*layers).eval()
    noise = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    weights = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        before = float(model(noise).std())
    settle(model, {"imgsz": [32, 32]})
    assert not model.training
    with torch.no_grad():
        assert float(model(noise).std()) > 0.9 > 5 * before
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters()))
    assert {layer.momentum for layer in layers[1::2]} == {0.1}


def test_a_model_that_does_not_train_on_noise_is_left_as_it_is():
    class Picky(torch.nn.Sequential):
        def forward(self, x):
            x = super().forward(x)
            if self.training:
                raise ValueError("where are the labels?")
            return x

    model = Picky(torch.nn.BatchNorm2d(3)).eval()
    settle(model, {"imgsz": [32, 32]})
    assert model[0].running_mean.tolist() == [0, 0, 0]
    assert not model.training
