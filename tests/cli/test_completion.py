"""Completion in the shell, as each shell asks for it; and errors of one line."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import plain
from tests.inspecting.runs import make_run
from yolo_callbacks.cli.completion import complete_argument, complete_callback, complete_run
from yolo_callbacks.cli.main import app


def ask(shell, line, folder):
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    environment = {**os.environ, **asked[shell], "_YOLO_CB_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", "yolo_callbacks"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_answers(shell, tmp_path):
    make_run(tmp_path / "runs" / "train7")
    assert "EarlyStopping" in ask(shell, "yolo-cb callbacks Ear", tmp_path)
    assert "runs/train7" in ask(shell, "yolo-cb train --resume runs/tr", tmp_path)
    assert "--cos_lr" in ask(shell, "yolo-cb train --data x.yaml --cos", tmp_path)


def test_what_can_be_completed(tmp_path, monkeypatch):
    for name in ("a", "b/c"):
        make_run(tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    assert complete_run("") == ["runs/a", "runs/b/c"]
    assert complete_run("runs/b/") == ["runs/b/c"]
    assert complete_run(f"{tmp_path}/runs/a") == [f"{tmp_path}/runs/a"]
    assert complete_run("nowhere/x") == []
    assert [name for name, _ in complete_callback("P")] == sorted(
        ["PreemptionHandler", "PerClassMetrics", "PlatformLogger", "PlotLogger"],
        key=[name for name, _ in complete_callback("")].index,
    )
    assert ("imgsz=640", dict(complete_argument(""))["imgsz=640"]) in complete_argument("img")
    assert [name for name, _ in complete_argument("--lr")] == ["--lr0", "--lrf"]


def test_every_argument_of_ultralytics_is_known():
    from ultralytics.cfg import DEFAULT_CFG_DICT

    known = {name.removeprefix("--") for name, _ in complete_argument("--")}
    assert known == set(DEFAULT_CFG_DICT) - {"mode", "task"}
    assert all("{" not in meaning for _, meaning in complete_argument("--"))


def test_the_script_is_valid_bash():
    shown = CliRunner().invoke(
        app, ["--show-completion", "bash"], env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    )
    script = subprocess.run(["bash", "-n"], input=shown.output, text=True, capture_output=True, check=False)
    assert script.returncode == 0, script.stderr


@pytest.mark.parametrize(("options", "traced"), [([], False), (["-v"], True), (["--verbose"], True)])
def test_an_unexpected_error_is_one_line_unless_verbose(options, traced, monkeypatch):
    def fail(*_):
        raise RuntimeError("[a bug]")

    monkeypatch.setattr("yolo_callbacks.cli.list_runs.runs_command", fail)
    result = CliRunner().invoke(app, [*options, "runs"])
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError) == traced
    if not traced:
        assert plain(result.output) == "Error: RuntimeError: [a bug]\nFor the traceback: yolo-cb -v runs ...\n"
