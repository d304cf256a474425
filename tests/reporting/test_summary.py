"""What is said of a run when it is over: in a frame, in a notebook, as a repr."""

import html
import io
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.helpers import record
from yolo_callbacks import Finish, Stop, StopReason
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.reporting.summary import Report, as_html, as_panel, as_text, literal

BEST = {"file": "weights/best-fitness.pt", "role": "best", "monitor": "fitness", "value": 0.5, "epoch": 2}


def report(folder, *values, planned=10, stop=None, decisions=(), ended=True, **manifest):
    entries = [Entry(record(n, value, planned=planned)) for n, value in enumerate(values, start=1)]
    return Report(folder, entries, decisions, stop, {"status": "finished", **manifest}, ended)


def rows(*args, **kwargs):
    return dict(report(*args, **kwargs).rows())


def test_the_result_comes_first(tmp_path):
    (tmp_path / "callbacks").mkdir()
    for name in ("journal.jsonl", "epochs.csv", "curves.png", "run.json"):
        (tmp_path / "callbacks" / name).touch()
    exports = [{"file": "best.onnx", "format": "onnx", "fitness": {"exported": 0.5, "pt": 0.5}}]
    shown = report(tmp_path, 0.1, 0.5, 0.2, planned=3, checkpoints=[BEST], exports=exports).rows()
    assert shown == [
        ("Best", "fitness 0.5000 in epoch 2"),
        ("Ended", "completed all 3 epochs"),
        ("Epochs", "3 of 3 in 30 s"),
        ("Run", str(tmp_path)),
        ("Checkpoint", "weights/best-fitness.pt  (fitness 0.5, epoch 2)"),
        ("Export", "export/best.onnx  (fitness 0.5000, .pt 0.5000)"),
        ("Logs", "callbacks/ (curves.png, epochs.csv, run.json)"),
    ]


def test_a_best_of_0_is_none(tmp_path):
    assert rows(tmp_path, 0.0, 0.0)["Best"] == "none, fitness is still 0"
    assert rows(tmp_path, None)["Best"] == "none, fitness was not measured"


@pytest.mark.parametrize(
    ("stop", "manifest", "said"),
    [
        (Stop("stop, enough", reason=StopReason.PLATEAU), {"status": "stopped"}, "early: enough"),
        (None, {"status": "interrupted", "error": "KeyboardInterrupt"}, "interrupted (Ctrl-C)"),
        (None, {"status": "interrupted", "error": "SystemExit: 143"}, "interrupted (SIGTERM)"),
        (None, {"status": "interrupted", "error": "SystemExit: 3"}, "interrupted (exit code 3)"),
        (None, {"status": "failed", "error": "ValueError: no\nnever"}, "failed: ValueError: no never"),
        (None, {"status": "running"}, "unknown: the process was killed, or is still running"),
        (None, {}, "completed all 2 epochs"),
    ],
)
def test_why_it_ended(tmp_path, stop, manifest, said):
    assert rows(tmp_path, 0.1, 0.2, stop=stop, **manifest)["Ended"] == said


def test_an_end_that_was_brought_forward_and_one_that_has_not_come(tmp_path):
    finish = Finish("finish by epoch 2 instead of 10, a plateau", 1, end_epoch=2)
    assert rows(tmp_path, 0.1, decisions=[finish])["Ended"].startswith("early: finish by epoch 2")
    assert rows(tmp_path, 0.1, ended=False)["Ended"] == "not yet"


@pytest.mark.parametrize(
    ("status", "reason", "files", "resumable"),
    [
        ("finished", None, ["last.pt", "backup.pt"], False),
        ("stopped", StopReason.PLATEAU, ["backup.pt"], False),
        ("stopped", StopReason.INTERRUPTED, ["last.pt"], False),  # which Ultralytics has stripped
        ("stopped", StopReason.INTERRUPTED, ["last.pt", "backup.pt"], True),
        ("preempted", StopReason.PREEMPTED, ["preempted.pt"], True),
        ("interrupted", None, ["last.pt"], True),
        ("failed", None, ["last.pt"], True),
        ("failed", None, ["exception.pt"], False),  # which may hold what caused it
        ("running", None, ["last.pt"], True),
    ],
)
def test_how_to_go_on(tmp_path, status, reason, files, resumable):
    folder = tmp_path / "a run"
    (folder / "weights").mkdir(parents=True)
    for name in files:
        (folder / "weights" / name).touch()
    stop = {"reason": reason.value, "message": "so", "epoch": 1} if reason else None
    assert "Resume" not in rows(folder, 0.1, status=status, ended=False)
    shown = dict(Report(folder, [Entry(record(1, 0.1))], manifest={"status": status, "stop": stop}).rows())
    assert shown.get("Resume") == (f"yolo-cb train --resume '{folder}'" if resumable else None)


def test_a_run_without_an_epoch_begins_anew(tmp_path):
    assert "Resume" not in rows(tmp_path, status="interrupted")
    (tmp_path / "args.yaml").touch()
    shown = rows(tmp_path, status="interrupted", error="KeyboardInterrupt")
    assert (shown["Epochs"], shown["Resume"]) == ("none completed", f"yolo-cb train --resume {tmp_path}")
    assert "Best" not in shown


@pytest.mark.parametrize(
    ("source", "model", "command"),
    [
        ("stand-in", "yolo26n.yaml", "yolo-cb train --data your-data.yaml"),
        ("built-in shapes", "/home/me/yolo26n-pose.pt", "yolo-cb train --data your-data.yaml --model yolo26n-pose.pt"),
    ],
)
def test_a_stand_in_names_the_command_for_ones_own_data(tmp_path, source, model, command):
    shown = report(tmp_path, 0.1, data_source=source, model=model).rows()
    assert shown[-1] == ("Next", f"the same on your own data: {command}")


# ------------------------------------------------------------------------------------------------- what is outside

NASTY = st.one_of(
    st.sampled_from(
        ["[old]", "[/v1]", "[/]", "[bold]x", "\\[", "\\", ":smile:", "<b>&amp;", "\x1b[2J", "\udce9", "\n"]
    ),
    st.text(st.characters(), max_size=20),
)
WORDS = st.lists(NASTY, min_size=1, max_size=4).map("".join)


def harmless(text):
    """Return text without what a terminal would obey or could not write."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)


@given(*[WORDS] * 9)
@settings(max_examples=60, deadline=None)
def test_whatever_things_are_called_it_is_shown_and_never_obeyed(
    folder, message, error, file, monitor, name, why, model, word
):
    shown = Report(
        Path("/nowhere") / folder.replace("\0", "").replace("/", "|"),
        [Entry(record(1, 0.5, planned=2))],
        stop=Stop(message, reason=StopReason.EXTERNAL),
        manifest={
            "status": "failed",
            "error": error,
            "model": model,
            "data_source": word,
            "checkpoints": [{**BEST, "file": file, "monitor": monitor}],
            "exports": [
                {"file": name, "format": "onnx"},
                {"file": name, "format": name, "passed": False, "error": why},
            ],
        },
    ).rows()
    as_panel(shown).encode()
    as_text(shown).encode()
    page = as_html("Attachment(EarlyStopping)", shown)
    page.encode()
    assert not re.sub(r"</?(div|b|table|tr|th|td)( style=\"text-align: left\")?>", "", page).count("<")
    for _, text in shown:
        assert "\x1b" not in text
        assert html.escape(text) in page
    assert dict(shown)["Ended"] == harmless(" ".join(f"early: {message}".splitlines()))


@given(WORDS)
@settings(deadline=None)
def test_a_line_of_the_command_line_is_shown_as_it_is(text):
    console = Console(width=1000, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(literal(text, "bold red", "Error:"), soft_wrap=True)
    assert captured.get() == f"Error: {harmless(text)}\n"


def test_a_terminal_that_has_no_lines_to_draw_with(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    as_panel(rows(tmp_path / "Läufe 车", 0.5).items()).encode("cp1252")
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw
    assert "Best" in as_panel(rows(tmp_path, 0.5).items())
