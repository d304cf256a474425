"""`yolo-cb lr-find`: what it prints, and its exit codes; the test itself is in tests/e2e/test_lr_find.py."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers import TINY_MODEL
from yolo_callbacks.cli import lr_find
from yolo_callbacks.cli.main import app
from yolo_callbacks.lr_finding import LRFindResult

AUTO = "optimizer=auto ignores lr0: for this data and number of epochs it chooses AdamW with lr0=0.00125"


@pytest.fixture
def invoke(monkeypatch, shapes):
    """Return a function that runs the command with a test that finds a rate; it returns code, words, arguments."""

    def run(*words, suggestion=0.004):
        asked = {}

        def found(model, **arguments):
            asked.update(arguments)
            return LRFindResult((), (), suggestion, "the message", "AdamW", AUTO, False, arguments["picture"])

        monkeypatch.setattr(lr_find, "lr_find", found)
        result = CliRunner().invoke(app, ["lr-find", "--model", TINY_MODEL, "--data", str(shapes), *words])
        return result.exit_code, " ".join(result.stderr.split()), asked

    return run


def test_the_suggestion_its_picture_and_the_command_that_uses_it(invoke, shapes):
    code, printed, asked = invoke("--epochs", "9", "--max-lr", "0.1", "optimizer=AdamW", "batch=8")
    assert code == 0
    assert printed.startswith(f"The message. Picture: lr-find.png {AUTO}. Train with it: yolo-cb train --data")
    assert printed.endswith(f"{shapes} --model {TINY_MODEL} --epochs 9 batch=8 optimizer=AdamW lr0=0.004")
    assert (asked["epochs"], asked["max_lr"], asked["batch"], asked["optimizer"]) == (9, 0.1, 8, "AdamW")
    assert asked["picture"] == Path("lr-find.png")


def test_without_a_suggestion_there_is_no_command(invoke):
    code, printed, _ = invoke(suggestion=None)
    assert code == 1
    assert "Train with it" not in printed


def test_bad_usage(invoke):
    code, printed, asked = invoke("batsch=3")
    assert code == 2
    assert "'batsch' is not an argument of Ultralytics (did you mean 'batch'?)" in printed
    assert not asked
