"""`yolo-cb compare`."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import plain
from tests.inspecting.runs import make_run
from yolo_callbacks.cli.main import app


@pytest.fixture
def runs(tmp_path):
    images = tmp_path / "data" / "images" / "val"
    images.mkdir(parents=True)
    for number in range(400):
        (images / f"{number}.jpg").touch()
    (images / "labels.txt").touch()
    data = tmp_path / "data.yaml"
    data.write_text(f"path: {tmp_path / 'data'}\nval: images/val\n")
    callbacks = {"EarlyStopping": {"class": "EarlyStopping", "patience": 20}}
    for name, scores, patience in (("a", [0.2, 0.5, 0.4], 20), ("b", [0.2, 0.3, 0.8], 50), ("c", [0.51, 0.4, 0.3], 20)):
        manifest = {"status": "finished", "processes": 2, "versions": {"torch": "2.5"}}
        manifest["callbacks"] = {"EarlyStopping": {**callbacks["EarlyStopping"], "patience": patience}}
        lr0 = 0.02 if name == "b" else 0.01
        make_run(
            tmp_path / "runs" / name, scores=scores, planned=3, manifest=manifest, data=str(data), lr0=lr0, name=name
        )
    return tmp_path / "runs"


def show(*words, width=80):
    result = CliRunner().invoke(app, ["compare", *map(str, words)], env={"COLUMNS": str(width)})
    return result.exit_code, plain(result.output)


@pytest.mark.parametrize("width", [80, 120])
def test_what_differs_and_whether_it_can_be_told(runs, width):
    code, shown = show(runs, width=width)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert code == 0
    assert max(len(line) for line in lines) <= width
    assert "…" not in shown
    assert "2 b finished 0.8000 3 3/3 3 min 0.10" in " ".join(lines)
    assert any(line.startswith("2 +0.3000 better: between +0.23") for line in lines)
    assert any(line.startswith("3 +0.0100 no clear difference: between -0.0") for line in lines)
    assert "mAP50-95(B) 0.5000 @ 2 0.8000 @ 3 0.5100 @ 1" in lines
    assert "Settings that differ: 2" in lines
    assert "lr0 0.01 0.02 0.01" in lines
    assert "EarlyStopping.patience 20 50 20" in lines
    assert "of two shares of 400 validation images (Wilson 1927, Newcombe 1998)" in " ".join(lines)


def test_json_and_csv(runs):
    data = json.loads(show(runs / "a", runs / "b", "--json")[1])
    assert [run["against_first"] for run in data["runs"]] == ["reference", "better"]
    assert data["settings"] == {"lr0": [0.01, 0.02], "EarlyStopping.patience": [20, 50]}
    assert data["runs"][1]["metrics"]["metrics/mAP50-95(B)"] == {"best": 0.8, "epoch": 3}
    rows = list(csv.DictReader(io.StringIO(show(runs, "--csv")[1])))
    assert [row["setting lr0"] for row in rows] == ["0.01", "0.02", "0.01"]
    assert [row["epochs"] for row in rows] == ["3", "3", "3"]
    assert show(runs, "--csv", "--json")[0] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda runs: (runs.parent / "data.yaml").unlink(), "cannot tell: the validation set was not found"),
        (
            lambda runs: (runs / "b" / "args.yaml").write_text("data: other.yaml\n"),
            "cannot tell: validated on other data",
        ),
        (lambda runs: (runs / "b" / "results.csv").write_text("epoch\n1\n"), "cannot tell: nothing was measured"),
    ],
)
def test_what_cannot_be_told_is_said(runs, change, words):
    change(runs)
    code, shown = show(runs / "a", runs / "b")
    assert code == 0
    assert words in " ".join(shown.split())


def test_many_runs_and_runs_without_arguments(runs, tmp_path):
    for number in range(3):
        make_run(runs / f"other{number}", scores=[0.1 * number, 0.2])
    (runs / "other0" / "args.yaml").unlink()
    shown = " ".join(show(runs)[1].split())
    assert "lr0 0.01 (run 1, 3); 0.02 (run 2); - (run 4, 5, 6)" in shown
    assert "No args.yaml: run 4." in shown


def test_one_run_is_no_comparison(runs, tmp_path):
    assert "needs at least two runs" in show(runs / "a")[1]
    code, shown = show(runs / "a", tmp_path / "nowhere")
    assert (code, "does not exist" in shown) == (2, True)
