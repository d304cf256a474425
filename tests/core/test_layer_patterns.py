"""Which layers are meant: names in, names out."""

import pytest

from tests.core.layer_names import YOLO, layers_of
from yolo_callbacks.core.layer_patterns import LayerNames, check_layers, select
from yolo_callbacks.support.checks import SettingError


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, range(10)),
        (3, range(3)),
        (12, range(11)),  # the first 12 layers, one of which has nothing to learn
        ([3, "model.12"], [3, 12]),
        ("model.1", [1]),  # not model.10 and model.12
        ("model.1.", [1]),
        ("model.1*", [1, 10, 12]),
        ("model.1[02]", [10, 12]),
        ("model.[!0-8]", [9]),
        ("*.conv", [*range(11), 12]),
    ],
)
def test_layers_by_number_name_and_pattern(layers, expected):
    assert layers_of(select(check_layers(layers), YOLO)) == list(expected)


def test_a_pattern_may_mean_single_parameters():
    assert select(("model.0.bn", "model.1*.bias"), YOLO) == {
        "model.0.bn.weight",
        "model.0.bn.bias",
        "model.1.bn.bias",
        "model.10.bn.bias",
        "model.12.bn.bias",
    }


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["model.0", "modle.9"], r"'modle\.9' is no layer .* \(did you mean 'model\.9'\?\); its layers are model\.0, "),
        (14, r"'model\.13' is no layer"),
        ("model.1.conv.wieght", r"did you mean 'model\.1\.conv\.weight'"),
        ("model.11", "there is nothing to learn in model.11"),
    ],
)
def test_a_pattern_that_means_nothing_says_what_there_is(layers, message):
    with pytest.raises(SettingError, match=message):
        select(check_layers(layers), YOLO)


def test_a_model_without_a_backbone_wants_names():
    names = LayerNames(("net.features.0.weight", "net.fc.weight"), ("net", "net.features", "net.features.0", "net.fc"))
    with pytest.raises(ValueError, match=r"this model has none: name its layers, which are net\.features, net\.fc"):
        select(None, names)
    assert select(("net.fc",), names) == {"net.fc.weight"}


@pytest.mark.parametrize("layers", [True, 1.5, {"model.0": 1}, [None], [True], [1.0]])
def test_what_cannot_name_layers(layers):
    with pytest.raises(TypeError, match="must be None for the backbone"):
        check_layers(layers)


@pytest.mark.parametrize("layers", [0, -1, [], "", [""], ".", [-1]])
def test_what_names_no_layer(layers):
    with pytest.raises(ValueError, match="layers="):
        check_layers(layers)


def test_an_error_lists_no_more_than_a_few_layers():
    with pytest.raises(SettingError, match=r"its layers are model\.0, model\.1, \.\.\., model\.12"):
        select(("modle.9",), YOLO)
    few = LayerNames(YOLO.parameters, ("model", "model.0", "model.1", "model.2"))
    with pytest.raises(SettingError, match=r"its layers are model\.0, model\.1, model\.2$"):
        select(("modle.9",), few)
