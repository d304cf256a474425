"""A replay in the terminal."""

import re
from dataclasses import replace

import pytest

import yolo_callbacks as ycb
from tests.helpers import record
from tests.replaying.logs import rise_and_fall, write_csv
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.replaying.text import notes
from yolo_callbacks.run_dir.journal import Journal


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


def test_what_limited_a_run_is_said_of_an_old_one_too(tmp_path):
    slow = {"system/data_seconds": 6.0, "system/step_seconds": 4.0}
    entries = [Entry(record(n, 0.1 * n)) for n in range(1, 7)]
    entries = [
        replace(entry, record=replace(entry.record, metrics={**entry.record.metrics, **slow})) for entry in entries
    ]
    Journal(tmp_path / "old" / "callbacks" / "journal.jsonl").begin(JournalContent(ycb.Plan(6), (), entries))
    report = ycb.replay(tmp_path, [ycb.EarlyStopping(patience=4)])
    ((run, (message,)),) = report.findings.items()
    assert message.startswith("epoch 4: 60 % of the training time went into waiting for data (6.0 of 10.0 s per epoch)")
    assert f"What limited the runs:\n  {run}: {message}" in str(report)
    assert report.to_json()["findings"] == {run: [message]}


def test_notes_say_no_more_than_there_is(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20), epochs=20)
    report = ycb.replay(folder, [ycb.EarlyStopping(patience=4)])
    assert len(list(notes(report))) == 1
    assert report.findings == {} and "limited" not in str(report) and "findings" not in report.to_json()


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
