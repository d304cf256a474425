import csv
import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks.core.classes import Classes, ClassResults
from yolo_callbacks.run_dir.class_log import ClassLog, last_epoch, read_lines, read_rows
from yolo_callbacks.support import storage

NAMES = ("person", 'a "quoted", name', "人/车 😀")
CLASSES = Classes(NAMES, ("recall", "mAP50-95"), "mAP50-95")


def results(epoch):
    values = [None, epoch / 10, 0.0]
    return ClassResults(CLASSES, {"recall": [None, 1.0, 0.5], "mAP50-95": values}, [0, 7, 3])


def log(path, epochs, done=0):
    made = ClassLog(path, CLASSES, done)
    made.begin()
    for epoch in epochs:
        made.add(epoch, results(epoch))
    return made


def epochs_in(path):
    return [int(row[0]) for row in list(read_rows(path))[1:]]


def test_a_row_for_each_class_and_epoch(tmp_path):
    log(tmp_path / "classes.csv", [1, 2])
    with open(tmp_path / "classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["class"]) for row in rows] == [(e, n) for e in "12" for n in NAMES]
    absent, found = rows[3], rows[4]
    assert (absent["instances"], absent["recall"], absent["mAP50-95"]) == ("0", "", "")  # empty, and not the mean
    assert (found["instances"], found["recall"], found["mAP50-95"]) == ("7", "1.0", "0.2")


@settings(deadline=None, max_examples=60)
@given(done=st.integers(1, 6), cut=st.integers(0, 400), more=st.integers(1, 3))
def test_after_a_crash_each_epoch_is_there_once_and_whole(tmp_path_factory, done, cut, more):
    """The process dies anywhere in the file, and the run goes on after any epoch."""
    path = tmp_path_factory.mktemp("log") / "classes.csv"
    log(path, range(1, 7))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - min(cut, len(data))])
    whole = [epoch for epoch in range(1, done + 1) if epochs_in(path).count(epoch) == len(NAMES)]
    log(path, range(done + 1, done + 1 + more), done)
    assert epochs_in(path) == [e for e in [*whole, *range(done + 1, done + 1 + more)] for _ in NAMES]
    assert all(len(row) == 5 for row in read_rows(path))
    assert last_epoch(path) == done + more


def test_a_run_without_a_past_begins_anew(tmp_path):
    log(tmp_path / "classes.csv", [1, 2, 3])
    log(tmp_path / "classes.csv", [1])
    assert epochs_in(tmp_path / "classes.csv") == [1, 1, 1]


def test_a_table_of_other_classes_is_put_aside(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("epoch,class,images,top1\n1,cat,3,0.5\n")
    log(path, [2], done=1)
    assert epochs_in(path) == [2, 2, 2]
    assert "cat" in (tmp_path / "classes.1.csv").read_text()


def test_a_table_that_somebody_removed_begins_with_its_header(tmp_path):
    made = log(tmp_path / "classes.csv", [1])
    (tmp_path / "classes.csv").unlink()
    made.add(2, results(2))
    assert next(iter(read_rows(tmp_path / "classes.csv")))[:2] == ["epoch", "class"]
    assert epochs_in(tmp_path / "classes.csv") == [2, 2, 2]


def test_what_a_full_disk_refuses_goes_out_later(tmp_path, monkeypatch):
    made, append = log(tmp_path / "classes.csv", [1]), storage.append_lines

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "append_lines", full)
    made.add(2, results(2))
    made.add(3, results(3))
    assert epochs_in(tmp_path / "classes.csv") == [1, 1, 1]
    monkeypatch.setattr(storage, "append_lines", append)
    made.add(4, results(4))
    assert epochs_in(tmp_path / "classes.csv") == [e for e in (1, 2, 3, 4) for _ in NAMES]


def test_a_disk_that_is_full_from_the_beginning(tmp_path, monkeypatch):
    replacing = storage.replacing
    monkeypatch.setattr(storage, "replacing", lambda path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    made = log(tmp_path / "classes.csv", [1])
    monkeypatch.setattr(storage, "replacing", replacing)
    made.add(2, results(2))
    assert epochs_in(tmp_path / "classes.csv") == [e for e in (1, 2) for _ in NAMES]


def test_a_long_run_keeps_nothing_in_memory_and_appends(tmp_path):
    made = log(tmp_path / "classes.csv", range(1, 50))
    size, inode = (tmp_path / "classes.csv").stat().st_size, (tmp_path / "classes.csv").stat().st_ino
    made.add(50, results(50))
    after = (tmp_path / "classes.csv").stat()
    assert after.st_ino == inode  # the same file: what was there is not written again
    assert after.st_size - size < 200
    assert made._waiting == ""


def test_a_line_that_is_not_whole_is_not_read(tmp_path):
    log(tmp_path / "classes.csv", [1])
    with open(tmp_path / "classes.csv", "a") as file:
        file.write("2,person,3,0.12")
    assert epochs_in(tmp_path / "classes.csv") == [1, 1, 1]
    assert last_epoch(tmp_path / "classes.csv") == 1
    assert len(list(read_lines(tmp_path / "classes.csv"))) == 4


def test_an_empty_table_has_no_epoch(tmp_path):
    log(tmp_path / "classes.csv", [])
    assert last_epoch(tmp_path / "classes.csv") == 0
    with pytest.raises(FileNotFoundError):
        last_epoch(tmp_path / "nothing.csv")
