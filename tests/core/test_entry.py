"""An epoch with its decisions, as loggers and the journal see it."""

import json
import math

import pytest

from yolo_callbacks import EpochRecord, Plan, SaveCheckpoint, SetLearningRate, Stop, StopReason
from yolo_callbacks.core.entry import Entry, JournalContent, best_fitness

DECISIONS = (
    SaveCheckpoint("kept", 4, "ModelCheckpoint", file="weights/a.pt", value=0.5),
    SetLearningRate("slower", 4, "ReduceLROnPlateau", factor=0.1, min_lr=1e-5),
    SaveCheckpoint("kept too", 4, "BackupAndRestore", file="weights/backup.pt", role="backup"),
    Stop("enough", 4, "EarlyStopping", reason=StopReason.PLATEAU),
)


def entry(epoch=4, decisions=DECISIONS, **metrics):
    record = EpochRecord(epoch, {"fitness": 0.5, **metrics}, elapsed=2.5, lr_factor=0.1, measures={"seconds": 2.0})
    return Entry(record, decisions, {"x/wait": 3})


def test_a_row_names_the_decisions():
    row = entry().to_row()
    assert row["event"] == (
        "ModelCheckpoint: best -> a.pt; ReduceLROnPlateau: lr factor 0.1; EarlyStopping: stop (plateau)"
    )
    assert next(iter(row)) == "epoch"
    assert entry(decisions=()).to_row()["event"] == ""


def test_a_row_and_the_numbers_have_all_that_was_measured():
    numbers = {"fitness": 0.5, "lr_factor": 0.1, "seconds": 2.0, "x/wait": 3}
    assert entry().numbers == numbers
    row = entry().to_row()
    assert {name: row[name] for name in numbers} == numbers
    assert (row["epoch"], row["elapsed"], row["validated"]) == (4, 2.5, True)


def test_the_first_stop_is_the_one_that_ended_the_run():
    assert entry().stop is DECISIONS[-1]
    assert entry(decisions=DECISIONS[:-1]).stop is None


def test_a_line_is_strict_json():
    def refuse(constant):
        raise AssertionError(constant)

    line = entry(bad=math.nan, worse=-math.inf).to_line()
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    data = json.loads(line, parse_constant=refuse)
    assert [item["kind"] for item in data["decisions"]] == [
        "save_checkpoint",
        "set_learning_rate",
        "save_checkpoint",
        "stop",
    ]


def test_a_journal_has_its_plan_first_and_its_decisions_in_order():
    before = (SetLearningRate("slow start", 0, "LearningRateScheduler", factor=0.5),)
    content = JournalContent(Plan(planned_epochs=9), before, [entry(4)])
    header, line = content.to_text().splitlines()
    assert json.loads(header)["plan"]["planned_epochs"] == 9
    assert f"{line}\n" == entry(4).to_line()
    assert content.decisions == [*before, *DECISIONS]


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([], None),
        ([0.0, 0.0], None),  # nothing is learned yet
        ([0.1, 0.3, 0.2], (2, 0.3)),
        ([0.3, 0.3], (1, 0.3)),
        ([math.nan, 0.1, math.inf], (2, 0.1)),
        ([None, 0.1], (2, 0.1)),
    ],
)
def test_the_epoch_with_the_best_fitness(values, best):
    metrics = [{} if value is None else {"fitness": value} for value in values]
    assert best_fitness(Entry(EpochRecord(epoch, item)) for epoch, item in enumerate(metrics, 1)) == best
