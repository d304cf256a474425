"""`yolo-cb replay` as a user runs it: a process of its own."""

import json
import re
import subprocess
import sys

import pytest

from tests.cli.helpers import plain
from tests.replaying.logs import rise_and_fall, write_csv


@pytest.fixture
def runs(tmp_path):
    write_csv(tmp_path / "runs" / "train", rise_and_fall(5, 20), epochs=20, warmup_epochs=0, close_mosaic=0)
    write_csv(tmp_path / "runs" / "train2", rise_and_fall(20, 20), epochs=20)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "results.csv").touch()
    return "runs"


def test_rules_of_the_command_line_and_of_files(command, tmp_path, runs):
    (tmp_path / "mine.yaml").write_text("- EarlyStopping:\n    patience: 6\n- ReduceLROnPlateau:\n    patience: 3\n")
    result = command("replay", runs, "--patience", "4,0.5", "--config", "mine.yaml", "--out", "out", "--details")
    assert result.returncode == 0, result.stderr
    shown = plain(result.stdout)
    assert re.search(r"^patience 4 +27.5% +0.0000 ", shown, re.MULTILINE)
    assert "lr factor 0.1 @ 8" in shown
    assert "2 runs, 40 epochs" in shown
    assert "Not replayed: 1" in shown
    assert "broken/results.csv is empty" in shown
    assert shown.rstrip().endswith("Written to out")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    rules = ["patience 4", "patience 0.5", "mine.yaml", "oracle: best", "oracle: -0.005"]
    assert [row["rule"] for row in data["summary"]] == rules
    again = command("replay", runs, "--patience", "4", "--out", "out")
    assert plain(again.stdout).rstrip().endswith("Written to out-2")


def test_nothing_said_compares_several_patiences(command, runs):
    result = command("replay", f"{runs}/*")
    assert result.returncode == 0, result.stderr
    assert {"patience 10", "patience 50", "patience auto"} <= {line[:13].strip() for line in result.stdout.splitlines()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nothing could be replayed: nowhere does not exist"),
        (["runs/broken"], "broken/results.csv is empty"),
        (["runs", "--patience", "0"], "patience=0 means 'stop at once' to Keras"),
        (["runs", "--patience", "many"], "patience='many' must be"),
        (["runs", "--patience", "1.5"], "patience=1.5 must be a finite number > 0 and < 1"),
        (["runs", "--patience", ","], "there is no rule to replay"),
        (["runs", "--config", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_bad_usage(command, runs, words, message):
    result = command("replay", *words)
    assert result.returncode == 2
    assert message in plain(result.stderr)
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_made(command, tmp_path, runs):
    (tmp_path / "file").touch()
    result = command("replay", runs, "--out", "file/out")
    assert (result.returncode, result.stdout) == (1, "")
    assert "file/out cannot be written" in plain(result.stderr)


def test_it_is_listed_and_explained(command):
    assert "replay" in command("--help").stdout
    shown = " ".join(plain(command("replay", "--help").stdout).split())
    assert "For example: yolo-cb replay runs/ --patience 10,50,0.3,auto --config callbacks.yaml --out replayed" in shown
    assert all(option in shown for option in ("--patience", "--config", "--out", "--details"))


@pytest.mark.parametrize("extra", [[], ["--out", "out"]])
def test_neither_torch_nor_ultralytics_is_imported(tmp_path, runs, extra):
    heavy = ("torch", "ultralytics", "pandas", "cv2", *(() if extra else ("matplotlib",)))
    words = ["replay", runs, "--patience", "4,0.3", *extra]
    code = (
        "import sys\nfrom yolo_callbacks.cli.main import app\n"
        f"try:\n    app({words!r})\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "patience 4" in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded: []"


def test_without_a_path_it_takes_the_runs_at_hand(command, runs):
    result = command("replay", "--patience", "4")
    assert result.returncode == 0, result.stderr
    assert "2 runs, 40 epochs" in plain(result.stdout)
    assert " ".join(plain(result.stdout).split()).endswith(
        "On these 2 runs, 'patience 4' saves the most of the rules that lose at most 0.005 on average: 27.5% of the "
        "epochs, at a mean loss of 0.0000."
    )


def test_json(command, runs):
    result = command("replay", runs, "--patience", "4", "--json")
    data = json.loads(result.stdout)
    assert (data["runs"], data["summary"][0]["rule"], data["summary"][0]["epochs_saved"]) == (2, "patience 4", 11)
