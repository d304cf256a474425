"""What is trained on, and with which arguments, where a network may or may not be."""

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import SMALL, plain
from yolo_callbacks.cli import sources
from yolo_callbacks.cli.main import app
from yolo_callbacks.cli.sources import DEMO_SOURCE, SHAPES_SOURCE, SUITABLE_ARGUMENTS, SourceError, find_data
from yolo_callbacks.datasets import SHAPES


@pytest.fixture
def coco8_is(monkeypatch):
    return lambda problem: monkeypatch.setattr(sources, "_try_coco8", lambda: problem)


def test_the_demo_is_coco8_where_it_and_weights_are_found(coco8_is):
    coco8_is(None)
    assert find_data("demo", "detect", True, pretrained=True) == ("coco8.yaml", {"data_source": DEMO_SOURCE}, "")


@pytest.mark.parametrize(
    ("problem", "pretrained", "reason"),
    [
        ("ConnectionError: no network", True, "cannot be downloaded (ConnectionError: no network)"),
        (None, False, "without pretrained weights, nothing is learned from its 4 images"),
    ],
)
def test_else_the_demo_is_the_shapes_and_says_so(coco8_is, problem, pretrained, reason):
    coco8_is(problem)
    data, facts, warning = find_data("demo", "detect", True, pretrained=pretrained)
    assert data == str(SHAPES["detect"])
    assert (facts["data_source"], facts["data_asked_for"]) == (SHAPES_SOURCE, "demo")
    assert reason in facts["data_problem"]
    assert "This is NOT coco8" in warning
    assert reason in warning
    with pytest.raises(SourceError, match="the demo cannot train on coco8"):
        find_data("demo", "detect", False, pretrained=pretrained)


def test_the_arguments_of_each_source_are_arguments_of_ultralytics():
    from ultralytics.cfg import get_cfg

    for arguments in SUITABLE_ARGUMENTS.values():
        get_cfg(overrides=arguments)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nope.yaml", *SMALL], "dataset nope.yaml is not available"),
        (["--model", "yolo26n-nonsense.yaml"], "model yolo26n-nonsense.yaml is not available"),
        (["model=yolo26n-cls.yaml"], "there are no built-in shapes for task=classify"),
        (["--data", "coco8.yaml", "--no-standin", *SMALL], "coco8 is not on this machine and cannot be downloaded (no"),
    ],
)
def test_the_command_fails_in_one_line_where_something_is_not_available(
    words, message, coco8_is, tmp_path, monkeypatch
):
    coco8_is("no network")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", *words])
    assert result.exit_code == 1
    assert message in plain(result.output)
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []
