import dataclasses
import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks import EpochRecord, Plan, SaveCheckpoint, SetLearningRate, Stop, StopReason
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.run_dir.journal import Journal, read_journal
from yolo_callbacks.support import storage

numbers = st.one_of(st.floats(allow_nan=False), st.sampled_from([math.inf, -math.inf]))
PLAN = Plan(planned_epochs=10, base_lr=0.01, final_lr=0.0001, trainer_patience=100)
BEFORE = (SetLearningRate("slow start", 0, "LearningRateScheduler", factor=0.5),)


def entry(epoch: int, fitness: float = 0.5) -> Entry:
    decisions = (
        SaveCheckpoint("kept", epoch, "ModelCheckpoint", file="weights/a.pt", value=fitness, drop=("weights/b.pt",)),
        SetLearningRate("slower", epoch, "ReduceLROnPlateau", factor=0.1, min_lr=1e-5),
        Stop("enough", epoch, "EarlyStopping", reason=StopReason.PLATEAU),
    )
    return Entry(EpochRecord(epoch, {"fitness": fitness, "é/ü": 1 / 3}, elapsed=2.5), decisions, {"x/wait": 3})


def write(path, entries):
    journal = Journal(path)
    journal.begin(JournalContent(PLAN, BEFORE, []))
    for item in entries:
        journal.append(item, lambda: None)


def test_what_is_written_is_read_back(tmp_path):
    entries = [entry(1), entry(2), entry(3)]
    write(tmp_path / "journal.jsonl", entries)
    content = read_journal(tmp_path / "journal.jsonl")
    assert content == JournalContent(PLAN, BEFORE, entries)
    assert [d.epoch for d in content.decisions] == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


@given(st.dictionaries(st.text(max_size=8), numbers, max_size=5), numbers)
def test_every_number_survives(tmp_path_factory, metrics, value):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    item = Entry(EpochRecord(1, metrics, base_lr=value), (SaveCheckpoint("", 1, value=value),), {})
    write(path, [item])
    assert read_journal(path).entries == [item]


def test_nan_survives_and_the_lines_are_strict_json(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, [entry(1, math.nan)])
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert math.isnan(read_journal(path).entries[0].record.metrics["fitness"])


def test_a_journal_cut_anywhere_gives_the_whole_lines_before(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, [entry(1), entry(2)])
    data = path.read_bytes()
    ends = [i for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        expected = sum(end <= cut for end in ends[1:])  # a line is whole even before its line break is there
        assert len(read_journal(path).entries) == expected


def test_a_repeated_epoch_counts_as_the_last_time(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, [entry(1, 0.1), entry(2, 0.2), entry(2, 0.3)])
    assert [item.record.metrics["fitness"] for item in read_journal(path).entries] == [0.1, 0.3]


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"format": 99}\n')
    with pytest.raises(ValueError, match="has format 99, but this version reads up to 2"):
        read_journal(path)


def test_a_full_disk_loses_no_line(tmp_path, monkeypatch, caplog):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.begin(JournalContent(PLAN, BEFORE, []))
    whole = storage.append_lines

    def full(path, text, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "append_lines", full)
    journal.append(entry(1), lambda: None)
    journal.append(entry(2), lambda: None)
    monkeypatch.setattr(storage, "append_lines", whole)
    journal.append(entry(3), lambda: None)
    assert [item.record.epoch for item in read_journal(path).entries] == [1, 2, 3]


def test_an_epoch_announced_and_never_completed_is_kept_apart(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.begin(JournalContent(PLAN, BEFORE, []))
    for item in (entry(1), entry(2)):
        journal.announce(item.record)
        journal.append(item, lambda: None)
    journal.announce(entry(3).record)
    content = read_journal(journal.path)
    assert content.entries == [entry(1), entry(2)]
    assert content.pending == entry(3).record
    with open(journal.path, "a") as file:
        file.write('{"format": 1, "pend')
    assert read_journal(journal.path) == content


def test_a_journal_that_was_removed_is_written_anew(tmp_path):
    journal = Journal(tmp_path / "callbacks" / "journal.jsonl")
    journal.begin(JournalContent(PLAN, BEFORE, []))
    journal.append(entry(1), lambda: None)
    shutil.rmtree(journal.path.parent)
    journal.announce(entry(2).record)
    whole = JournalContent(PLAN, BEFORE, [entry(1), entry(2)])
    journal.append(entry(2), lambda: whole)
    assert read_journal(journal.path) == whole


def test_counters_may_be_anything_a_float_can(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, [dataclasses.replace(entry(1), counters={"x/gap": math.inf})])
    assert read_journal(path).entries[0].counters == {"x/gap": math.inf}


DAMAGE = {
    "no object": "[1]",
    "no epoch": '{"format": 1, "record": {}}',
    "epoch 0": '{"format": 1, "record": {"epoch": 0, "metrics": {}}}',
    "a text for an epoch": '{"format": 1, "record": {"epoch": "2", "metrics": {}}}',
    "a list for a metric": '{"format": 1, "record": {"epoch": 2, "metrics": {"fitness": []}}}',
    "an unknown decision": '{"format": 1, "record": {"epoch": 2, "metrics": {}}, "decisions": [{"kind": "jump"}]}',
    "a wrong decision": '{"format": 1, "record": {"epoch": 2, "metrics": {}}, "decisions": [{"kind": "stop"}]}',
    "a plan of texts": '{"format": 1, "plan": {"planned_epochs": "10"}}',
    "a text for the format": '{"format": "1"}',
    "deep": "[" * 100_000,
    "a huge number": '{"format": 1, "record": {"epoch": 1' + "0" * 5000 + "}}",
    "not UTF-8": "\udcff",
}


@pytest.mark.parametrize("line", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_costs_itself_alone(tmp_path, line, said):
    path = tmp_path / "journal.jsonl"
    write(path, [entry(1), entry(2), entry(3)])
    lines = path.read_text().splitlines()
    lines[2] = line
    path.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
    assert read_journal(path) == JournalContent(PLAN, BEFORE, [entry(1), entry(3)])
    assert said.warnings == [f"{path}: left out as damaged or incomplete: line 3"]


def test_a_line_that_was_appended_to_a_torn_one_is_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, [entry(1), entry(2)])
    data = path.read_text()
    path.write_text(data[:-40] + entry(3).to_line() + entry(4).to_line())
    assert read_journal(path).entries == [entry(1), entry(3), entry(4)]
