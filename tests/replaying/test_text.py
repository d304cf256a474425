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
    assert lines[1].split() == ["epochs", "hours"]
    heads = ["saved", "lost", "median", ">", "0.005", ">", "0.01", "worst", "stops", "saved", "saved", "worst", "run"]
    assert lines[2].split() == ["rule", *heads]
    assert re.fullmatch(r"patience 4 +36.7% +0.0333 +0.0000 +33% +33% +0.1000 +2 +22 +1.1 +comes back *", lines[3])
    assert lines[5].startswith("reduce* ")
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
    assert max(len(line.rstrip()) for line in lines if "broken" not in line) <= width
    assert all("…" not in line for line in lines)


def test_notes_say_no_more_than_there_is(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20), epochs=20)
    assert len(list(notes(ycb.replay(folder, [ycb.EarlyStopping(patience=4)])))) == 1


def test_runs_that_stay_at_0_are_left_out_of_the_oracles(tmp_path):
    write_csv(tmp_path / "learns", rise_and_fall(5, 20), epochs=20)
    write_csv(tmp_path / "flat", [0.0] * 20, epochs=20)
    report = ycb.replay(tmp_path, {"patience 4": [ycb.EarlyStopping(patience=4)]})
    assert {row["rule"]: row["runs"] for row in report.rule_rows()} == {
        "patience 4": 2,
        "oracle: best": 1,
        "oracle: -0.005": 1,
    }
    assert "oracles: without the runs whose score stays at 0, 1 of 2." in list(notes(report))


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([0.1 * epoch for epoch in range(1, 10)], "On this run, no rule would have saved an epoch."),
        ([0.5, *[0.1] * 7, 0.9], "loses more than 0.005 on average; 'patience 4' loses the least, 0.4000, and saves"),
        ([0.5, *[0.1] * 8], "'patience 4' saves the most of the rules that lose at most 0.005 on average"),
        ([0.0] * 9, "'patience 4' saves the most"),
    ],
)
def test_it_ends_in_one_sentence(tmp_path, scores, words):
    write_csv(tmp_path, scores, epochs=9, warmup_epochs=0, close_mosaic=0)
    text = " ".join(str(ycb.replay(tmp_path, {"patience 4": [ycb.EarlyStopping(patience=4)]})).split())
    assert words in text
    assert text.endswith(".")
