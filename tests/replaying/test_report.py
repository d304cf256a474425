import csv
import json
import re

import pandas as pd
import pytest
from matplotlib.image import imread

import yolo_callbacks as ycb
from tests.replaying.logs import rise_and_fall, write_csv
from yolo_callbacks.replaying.pareto import draw
from yolo_callbacks.replaying.summary import summarize
from yolo_callbacks.replaying.text import notes

PLAIN = {"warmup_epochs": 0, "close_mosaic": 0}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_csv(folder / "falls", rise_and_fall(5, 20), epochs=20, seconds=360, **PLAIN)
    write_csv(folder / "comes back", [*rise_and_fall(5, 10), *[0.6] * 10], epochs=20, seconds=None, **PLAIN)
    write_csv(folder / "rises", rise_and_fall(20, 20))
    (folder / "broken").mkdir()
    (folder / "broken" / "results.csv").touch()
    rules = {
        "patience 4": [ycb.EarlyStopping(patience=4)],
        "patience 50": ycb.EarlyStopping(patience=50),
        "reduce": [ycb.ReduceLROnPlateau(patience=4)],
        "finish": [ycb.EarlyStopping(patience=4, on_plateau="finish", finish_epochs=3)],
    }
    return ycb.replay(folder, rules)


def test_a_row_a_rule_and_run(report):
    table = report.table
    assert list(table["run"].unique()) == ["comes back", "falls", "rises"]
    assert list(table["rule"].unique()) == [
        "patience 4",
        "patience 50",
        "reduce",
        "finish",
        "oracle: best",
        "oracle: -0.005",
    ]
    row = table[(table["rule"] == "patience 4") & (table["run"] == "comes back")].iloc[0]
    assert (row["stop_epoch"], row["epochs_saved"], row["saved"]) == (9, 11, 0.55)
    assert row["lost"] == pytest.approx(0.1)
    assert table["stop_epoch"].isna().sum() > 0
    assert table["hours_saved"].dtype == table["lost"].dtype == float


def test_a_row_a_rule(report):
    row = report.summary.loc["patience 4"]
    assert (row["runs"], row["stopped"], row["epochs_saved"]) == (3, 2, 22)
    assert row["saved_mean"] == pytest.approx(1.1 / 3)
    assert row["saved_median"] == 0.55
    assert (row["lost_mean"], row["lost_median"]) == (pytest.approx(0.1 / 3), 0)
    assert (row["lost_over_0.005"], row["lost_over_0.01"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (row["worst_run"], row["lost_max"]) == ("comes back", pytest.approx(0.1))
    assert (row["hours_saved"], row["runs_with_hours"]) == (pytest.approx(1.1), 2)
    assert pd.isna(report.summary.loc["patience 50", "worst_run"])


def test_what_is_unknown_is_left_out_of_the_mean(report):
    row = report.summary.loc["finish"]
    assert (row["lost_unknown"], row["lost_mean"], row["altered"]) == (2, 0, 2)
    only = [item for item in report.of("finish") if item.lost is None]
    assert summarize("finish", only)["lost_mean"] is None


def test_decisions_are_listed(report):
    frame = report.decisions
    assert set(frame["kind"]) == {"set_learning_rate", "finish"}
    assert frame[frame["rule"] == "reduce"].groupby("run")["epoch"].apply(list).to_dict() == {
        "comes back": [9, 15, 19],
        "falls": [9, 13, 17],
    }
    assert not frame["in_the_run"].any()


def test_no_decisions_are_a_table_too(tmp_path):
    report = ycb.replay(write_csv(tmp_path, [0.5]), ycb.default_callbacks()[:1])
    assert list(report.decisions.columns) == ["rule", "run", "epoch", "kind", "message", "in_the_run"]


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


def test_files(report, tmp_path):
    folder = report.save(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "decisions.csv",
        "pareto.png",
        "report.json",
        "runs.csv",
        "summary.csv",
    ]
    with open(folder / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.table) == 18
    assert (
        next(row["changes"] for row in rows if row["rule"] == "reduce")
        == "lr factor 0.1 @ 9; lr factor 0.01 @ 15; lr factor 0.001 @ 19"
    )
    data = json.loads((folder / "report.json").read_text())
    assert (data["runs"], len(data["table"]), len(data["skipped"])) == (3, 18, 1)
    assert imread(folder / "pareto.png").std() > 0.01


def test_files_are_never_overwritten(report, tmp_path):
    first = report.save(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert report.save(tmp_path / "out") == tmp_path / "out-2"
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before


@pytest.mark.parametrize("name", ["picture.svg", "picture.pdf", "deep/er.png"])
def test_a_picture(report, tmp_path, name):
    assert report.plot(tmp_path / name).stat().st_size > 5_000


def test_every_rule_has_its_name_in_the_picture_and_none_lies_on_another(report):
    figure = draw(report)
    (axis,) = figure.axes
    texts = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert set(texts) == {"patience 4", "patience 50", "reduce*", "finish*", "oracle: best", "oracle: -0.005"}
    boxes = list(texts.values())
    assert all(box.count_overlaps(boxes[:i]) == 0 for i, box in enumerate(boxes))


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({}, ValueError, "there is no rule to replay"),
        ({"a": [1]}, TypeError, "is not a Callback"),
        (7, TypeError, "must be a list of callbacks"),
    ],
)
def test_rules_that_are_none(tmp_path, rules, error, message):
    with pytest.raises(error, match=message):
        ycb.replay(write_csv(tmp_path, [0.5]), rules)


def test_a_callback_is_a_rule(tmp_path):
    folder = write_csv(tmp_path, rise_and_fall(5, 20))
    report = ycb.replay(folder, ycb.EarlyStopping(patience=4))
    assert repr(report) == "ReplayReport(1 run, callbacks, oracle: best, oracle: -0.005)"


def test_a_file_is_a_rule_and_nothing_is_several_patiences(tmp_path):
    folder = write_csv(tmp_path / "run", rise_and_fall(5, 20))
    (tmp_path / "mine.yaml").write_text("- EarlyStopping:\n    patience: 4\n- CSVLogger\n")
    assert ycb.replay(folder, tmp_path / "mine.yaml").rules[0] == "mine.yaml"
    assert "patience 50" in ycb.replay(folder).rules


def test_nothing_to_replay(tmp_path):
    with pytest.raises(ValueError, match=r"nothing could be replayed: .*none does not exist"):
        ycb.replay(tmp_path / "none")
    with pytest.raises(ValueError, match="nothing could be replayed: no run was given"):
        ycb.replay([])
