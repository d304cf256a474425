"""Every example runs, in its smallest form."""

import importlib.util
from pathlib import Path

import pytest

import yolo_callbacks as ycb

FOLDER = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_it_runs(path, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.main(
        data=str(shapes), epochs=2, imgsz=64, batch=4, nbs=4, device="cpu", plots=False, project=str(tmp_path)
    )
    assert len(run.history) == 2


def test_the_configuration_is_valid():
    assert [type(callback).__name__ for callback in ycb.load_config(FOLDER / "callbacks.yaml")] == [
        "EarlyStopping",
        "ReduceLROnPlateau",
        "ModelCheckpoint",
        "CSVLogger",
        "PlotLogger",
    ]


def test_every_example_is_listed():
    text = (FOLDER / "README.md").read_text()
    for path in FOLDER.iterdir():
        if path.is_file() and path.name != "README.md":
            assert f"({path.name})" in text
