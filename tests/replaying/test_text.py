"""A replay in the terminal."""

import re

import pytest

import yolo_callbacks as ycb
from tests.replaying.logs import rise_and_fall, write_csv
from yolo_callbacks.replaying.text import notes


def test_what_is_printed(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = str(report).splitlines()
    assert lines[0] == "3 runs, 60 epochs"
    assert lines[1].split(maxsplit=7)[-1].split() == ["0.01", "worst", "stops", "epochs", "hours", "worst", "run"]
    assert re.fullmatch(r"patience 4 +36.7% +0.0333 +0.0000 +33% +33% +0.1000 +2 +22 +1.1 +comes back *", lines[2])
    assert lines[4].startswith("reduce* ")
    text = " ".join(" ".join(lines).split())
    assert "lead to a different curve, which cannot be replayed" in text
    assert "runs without an args.yaml: 1 of 3." in text
    assert "hours: from the runs that log the time, 2 of 3." in text
    assert "Not replayed: 1" in text
    assert "broken/results.csv is empty" in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_it_fits_the_terminal(report, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(report).splitlines()
    assert max(len(line.rstrip()) for line in lines[:-1]) <= width
    assert all("…" not in line for line in lines)


def test_notes_say_no_more_than_there_is(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20), epochs=20)
    assert len(list(notes(ycb.replay(folder, [ycb.EarlyStopping(patience=4)])))) == 1
