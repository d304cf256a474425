"""A replay as tables and files."""

import csv
import json

import pandas as pd
import pytest
from matplotlib.image import imread

import yolo_callbacks as ycb
from tests.replaying.logs import write_csv
from yolo_callbacks.replaying.summary import summarize


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


def test_nothing_to_replay(tmp_path):
    with pytest.raises(ValueError, match=r"nothing could be replayed: .*none does not exist"):
        ycb.replay(tmp_path / "none")
    with pytest.raises(ValueError, match="nothing could be replayed: no run was given"):
        ycb.replay([])
