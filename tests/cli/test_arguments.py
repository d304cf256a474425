"""Words of the command line: what they mean, and what is wrong with them, told before anything is loaded."""

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import plain
from yolo_callbacks.cli import train as train_module
from yolo_callbacks.cli.arguments import UsageError, check_arguments, parse_arguments, read_cfg
from yolo_callbacks.cli.main import app


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (
            ["imgsz=64", "lr0=1e-3", "cos_lr=True", "freeze=None"],
            {"imgsz": 64, "lr0": 1e-3, "cos_lr": True, "freeze": None},
        ),
        (["--imgsz", "64", "--plots=False"], {"imgsz": 64, "plots": False}),
        (["--close-mosaic", "3"], {"close_mosaic": 3}),
        (["--cos_lr", "--amp", "False"], {"cos_lr": True, "amp": False}),
        (["--cos_lr"], {"cos_lr": True}),
        (["classes=[0, 2]", "name=a=b"], {"classes": [0, 2], "name": "a=b"}),
    ],
)
def test_words_are_read_as_ultralytics_reads_them(words, expected):
    assert parse_arguments(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["coco8.yaml"], "'coco8.yaml' is not an argument: write key=value or --key value"),
        (["--"], "'--' is not an argument"),
        (["imgsz=64", "--imgsz", "32"], "'imgsz' is given twice"),
        (["close_mosaic=1", "--close-mosaic=2"], "'close_mosaic' is given twice"),
    ],
)
def test_words_that_are_no_arguments(words, message):
    with pytest.raises(UsageError) as caught:
        parse_arguments(words)
    assert message in str(caught.value)


def test_what_ultralytics_accepts_is_accepted():
    check_arguments({"imgsz": [64, 32], "mode": "train", "save_dir": "x", "augmentations": None, "epochs": 3}, ())


def test_the_arguments_of_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 3\nimgsz: 64\n")
    assert read_cfg(str(tmp_path / "mine.yaml")) == {"epochs": 3, "imgsz": 64}
    with pytest.raises(UsageError, match=r"cfg=.*none\.yaml cannot be read"):
        read_cfg(str(tmp_path / "none.yaml"))


# ---------------------------------------------------------------------------------------------- the whole command


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """Return a function that gives what a command says that is refused before a model is loaded."""

    def load(*_):
        raise AssertionError("a model is loaded")

    def run(*words):
        result = CliRunner().invoke(app, ["train", *words])
        assert result.exit_code == 2, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return plain(result.output)

    monkeypatch.setattr(train_module, "load_model", load)
    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epoch=3"], "'epoch' is not an argument of Ultralytics (did you mean 'epochs'?)"),
        (["--imgs", "64"], "(did you mean 'imgsz'?)"),
        (["--confg", "x.yaml"], "(did you mean 'config'?)"),
        (["--epochs", "3", "epochs=4"], "'epochs' is given twice"),
        (["coco8.yaml"], "'coco8.yaml' is not an argument: write key=value or --key value"),
        (["lr0=fast"], "lr0"),
        (["imgsz=abc"], "imgsz=abc must be a number of pixels"),
        (["mode=predict"], "mode=predict cannot be used"),
        (["--config", "none.yaml"], "none.yaml cannot be read"),
        (["--epochs", "0"], "--epochs"),
        (["cfg=none.yaml"], "cfg=none.yaml cannot be read"),
    ],
)
def test_bad_usage(refused, words, message):
    assert message in refused(*words)


def test_a_mistake_in_a_file_of_ultralytics(refused, tmp_path):
    (tmp_path / "bad.yaml").write_text("epoch: 1\n")
    assert "(did you mean 'epochs'?)" in refused("cfg=bad.yaml")


def test_a_mistake_in_the_configuration(refused, tmp_path):
    (tmp_path / "callbacks.yaml").write_text("- EarlyStopping:\n    patiense: 3\n")
    said = refused("--config", "callbacks.yaml")
    assert "callbacks.yaml, line 2: EarlyStopping has no parameter 'patiense' (did you mean 'patience'?)" in said
