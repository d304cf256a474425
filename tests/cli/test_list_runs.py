"""`yolo-cb runs`."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import plain
from tests.inspecting.runs import here, make_run, pid_of_the_dead
from yolo_callbacks.cli.main import app


@pytest.fixture
def tree(tmp_path):
    make_run(tmp_path / "runs" / "detect" / "train", 10, manifest={"status": "finished"}, age=7200)
    make_run(tmp_path / "runs" / "detect" / "train2", 5, manifest=here(), age=30)
    make_run(tmp_path / "runs" / "detect" / "train3", 5, manifest=here(pid_of_the_dead()), age=90)
    failed = {"status": "failed", "error": "ValueError: [/red] a mistake"}
    make_run(tmp_path / "runs" / "a-name-that-is-long-enough-to-be-folded-in-80-columns", 2, manifest=failed, age=900)
    return tmp_path / "runs"


def show(*words, width=80):
    result = CliRunner().invoke(app, ["runs", *map(str, words)], env={"COLUMNS": str(width)})
    return result.exit_code, plain(result.output)


@pytest.mark.parametrize("width", [80, 120])
def test_newest_first_in_the_width_of_the_terminal(tree, width):
    code, shown = show(tree, width=width)
    lines = shown.splitlines()
    assert code == 0
    assert max(len(line.rstrip()) for line in lines[:-2]) <= width
    assert "…" not in shown
    assert lines[0].split()[:6] == ["run", "state", "mAP50-95", "at", "epochs", "took" if width > 80 else "age"]
    assert [line.split()[:5] for line in lines[1:3]] == [
        ["detect/train2", "running", "0.5000", "3", "5/10"],
        ["detect/train3", "killed", "0.5000", "3", "5/10"],
    ]
    assert ("ValueError: [/red] a mistake" in shown) == (width > 80)
    assert "4 runs in" in shown
    assert shown.rstrip().endswith(f"Resume with: yolo-cb train --resume {tree / 'detect' / 'train3'}")


def test_json_has_every_run(tree):
    code, shown = show(tree, "--json")
    runs = json.loads(shown)
    assert (code, len(runs)) == (0, 4)
    first = runs[0]
    assert (first["name"], first["state"], first["best"], first["epochs"]) == ("detect/train2", "running", 0.5, 5)


def test_what_is_not_there_is_one_sentence(tmp_path):
    code, shown = show(tmp_path / "nowhere")
    assert (code, " ".join(shown.split()).count("does not exist: name the directory of runs")) == (2, 1)
    assert "contains no run" in show(tmp_path)[1]


def test_without_a_directory_it_takes_runs_and_then_ultralytics_own(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "4 runs in runs:" in show()[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    assert "runs does not exist" in show()[1]
    (tmp_path / "config" / "Ultralytics").mkdir(parents=True)
    settings = {"runs_dir": str(tree)}
    (tmp_path / "config" / "Ultralytics" / "settings.json").write_text(json.dumps(settings))
    assert "4 runs in" in show()[1]


def test_neither_torch_nor_ultralytics_is_imported(tree):
    heavy = ("torch", "ultralytics", "pandas", "cv2", "matplotlib")
    code = (
        "import sys\nfrom yolo_callbacks.cli.main import app\n"
        f"try:\n    app(['runs', {str(tree)!r}])\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "loaded: []"
