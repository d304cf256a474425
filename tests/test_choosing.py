"""What attach() takes."""

import pytest

import yolo_callbacks as ycb
from yolo_callbacks import choosing


def names(callbacks):
    return [type(callback).__name__ for callback in callbacks]


def test_nothing_means_the_default_callbacks():
    assert names(choosing.resolve(None)) == names(ycb.default_callbacks())


@pytest.mark.parametrize("kind", ["one", "list", "tuple", "generator"])
def test_one_callback_or_several(kind):
    one = ycb.CSVLogger()
    given = {"one": one, "list": [one], "tuple": (one,), "generator": (item for item in [one])}[kind]
    assert choosing.resolve(given) == [one]


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_the_path_of_a_file_that_lists_them(kind, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("- CSVLogger\n- PlotLogger\n")
    assert names(choosing.resolve(kind(file))) == ["CSVLogger", "PlotLogger"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (5, TypeError, "callbacks=5 must be a list of callbacks"),
        (ycb.CSVLogger, TypeError, r"must be a list of callbacks.*: write CSVLogger\(\)"),
        ([ycb.CSVLogger], TypeError, r"is not a Callback: write CSVLogger\(\)"),
        ([print], TypeError, "register a plain function with model.add_callback"),
        ([type("Mine", (ycb.Callback,), {"on_epoch": print})()], ValueError, "on_epoch is not an event"),
    ],
)
def test_everything_else_is_refused_in_one_sentence(given, error, message):
    with pytest.raises(error, match=message):
        choosing.resolve(given)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("yolo26n.pt", r"cannot attach to 'yolo26n.pt': .*: load it first, YOLO\(path\)"),
        (None, "cannot attach to None"),
        (object(), "it must be an Ultralytics model"),
    ],
)
def test_what_is_no_model(model, message):
    with pytest.raises(TypeError, match=message):
        choosing.check_model(model)


def test_an_ultralytics_that_is_too_old_is_refused_with_the_command_that_updates_it(monkeypatch):
    choosing.check_version()
    monkeypatch.setattr(choosing, "MINIMUM_ULTRALYTICS", (99, 0, 1))
    with pytest.raises(ImportError, match=r"is too old, .*: run pip install 'ultralytics>=99\.0\.1'$"):
        choosing.check_version()
