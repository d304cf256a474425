"""CSVLogger's file over a run without a training; tests/e2e/test_main_path.py compares it with the trainer's own."""

import csv
import math

import pandas as pd
import pytest

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks import Callback, CSVLogger, Priority, SaveCheckpoint, SetLearningRate
from yolo_callbacks.callbacks.csv_logger import _Table


class Measures(Callback):
    """Announces what it may measure."""

    priority = Priority.MEASURE

    def measures(self, session):
        return ("odd/one", "odd/two")


def table(session, name="epochs.csv", **arguments):
    session.files.wait()
    return pd.read_csv(session.run.callbacks_dir / name, **arguments)


def raw(session, name="epochs.csv", separator=","):
    session.files.wait()
    with open(session.run.callbacks_dir / name, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.fixture
def session():
    started = SessionStub(CSVLogger(), Measures())
    started.begin()
    return started


def test_a_row_an_epoch_as_soon_as_it_is_complete(session):
    for epoch, value in enumerate([0.1, 0.2, 0.3], 1):
        session.epoch(value)
        assert table(session)["epoch"].tolist() == list(range(1, epoch + 1))
    assert table(session)["fitness"].tolist() == [0.1, 0.2, 0.3]


def test_there_is_no_file_before_the_first_epoch(session):
    session.files.wait()
    assert not (session.run.callbacks_dir / "epochs.csv").exists()


def test_numbers_are_written_in_full_precision(session):
    values = [1 / 3, 1e-17, 123456789.123456789]
    for value in values:
        session.epoch(value)
    assert [float(row[raw(session)[0].index("fitness")]) for row in raw(session)[1:]] == values


def test_an_epoch_that_was_not_validated_has_empty_cells(session):
    session.epoch(None)
    session.epoch(0.5)
    session.epoch(math.nan)
    rows = table(session, keep_default_na=False, dtype=str)
    assert rows["fitness"].tolist() == ["", "0.5", "nan"]
    assert rows["validated"].tolist() == ["False", "True", "True"]


def test_what_was_announced_has_its_columns_from_the_first_row_on(session):
    session.epoch(0.5)
    header, row = raw(session)
    place = header.index("odd/one")
    assert header[place : place + 3] == ["odd/one", "odd/two", "lr_factor"]
    assert row[place : place + 2] == ["", ""]


def test_a_column_that_comes_later_is_empty_in_the_rows_before(session):
    session.epoch(0.5)
    session.epoch(0.5, measures={"late": 3.0}, counters={"EarlyStopping/wait": 1})
    session.epoch(0.5)
    rows = table(session, keep_default_na=False, dtype=str)
    assert rows["late"].tolist() == ["", "3.0", ""]
    assert rows["EarlyStopping/wait"].tolist() == ["", "1", ""]
    assert [len(row) for row in raw(session)] == [len(rows.columns)] * 4


def test_the_event_is_the_last_column_and_says_what_was_decided(session):
    decided = [
        SetLearningRate("halved", 1, source="ReduceLROnPlateau", factor=0.5),
        SaveCheckpoint("kept", 1, source="BackupAndRestore", file="weights/backup.pt", role="backup", announce=False),
    ]
    session.epoch(0.5, decisions=decided)
    session.epoch(0.5, counters={"new/counter": 1})
    header, first, second = raw(session)
    assert header[-1] == "event"
    assert first[-1].startswith("ReduceLROnPlateau: ")
    assert decided[0].label in first[-1]
    assert second[-1] == ""


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_fields_with_the_separator_in_them_are_quoted(separator):
    session = SessionStub(CSVLogger("mine.csv", separator=separator))
    session.begin()
    name = f"a{separator}b"
    session.epoch(0.5, measures={name: 1.5})
    assert table(session, "mine.csv", sep=separator)[name].tolist() == [1.5]
    assert raw(session, "mine.csv", separator)[0].count(name) == 1


def test_a_resumed_run_begins_with_the_epochs_that_it_has(session):
    for value in (0.1, 0.2):
        session.epoch(value)
    entries = list(session.entries)
    (session.run.callbacks_dir / "epochs.csv").unlink(missing_ok=True)

    resumed = SessionStub(CSVLogger())
    resumed.entries.extend(entries)
    for entry in entries:
        resumed.history.append(entry.record)
    resumed.begin()
    assert table(resumed)["fitness"].tolist() == [0.1, 0.2]
    resumed.epoch(0.3)
    assert table(resumed)["epoch"].tolist() == [1, 2, 3]


def test_a_second_run_with_the_same_callback_begins_anew():
    callback = CSVLogger()
    for _ in range(2):
        session = SessionStub(callback)
        session.begin()
        session.epoch(0.5)
        assert table(session)["epoch"].tolist() == [1]


def test_the_file_may_be_written_while_rows_are_added(tmp_path):
    """It is written on another thread: what is asked for is what there was when it was asked for."""
    rows = _Table(",")
    row = {"epoch": 1, "lr_factor": 1.0, "event": ""}
    rows.add(row)
    write = rows.writer(tmp_path / "x.csv")
    rows.add({**row, "epoch": 2})
    rows.add({**row, "epoch": 3, "new": 1})
    write()
    assert pd.read_csv(tmp_path / "x.csv")["epoch"].tolist() == [1]
    rows.writer(tmp_path / "x.csv")()
    assert pd.read_csv(tmp_path / "x.csv")["epoch"].tolist() == [1, 2, 3]
    assert list(pd.read_csv(tmp_path / "x.csv")) == ["epoch", "lr_factor", "new", "event"]


def test_the_file_that_it_writes():
    assert CSVLogger("mine.csv").outputs() == ("callbacks/mine.csv",)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"filename": 3}, TypeError, "filename=3 must be a file name such as 'name.csv', not int"),
        ({"filename": None}, TypeError, "filename=None must be a file name"),
        ({"filename": "epochs.txt"}, ValueError, "filename='epochs.txt' must be a bare file name that ends in '.csv'"),
        ({"filename": ".csv"}, ValueError, "filename='.csv' must be a bare file name"),
        ({"filename": "logs/epochs.csv"}, ValueError, "filename='logs/epochs.csv' must be a bare file name"),
        ({"separator": ", "}, ValueError, "separator=', ' must be one character such as ',' or ';'"),
        ({"separator": ""}, ValueError, "separator='' must be one character"),
        ({"separator": '"'}, ValueError, "separator='\"' must be one character"),
        ({"separator": "\n"}, ValueError, r"separator='\n' must be one character"),
        ({"separator": 5}, TypeError, "separator=5 must be a string, not int"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        CSVLogger(**arguments)
    assert message in str(caught.value)
