import json

import pytest

from yolo_callbacks import EpochRecord, Plan, SetLearningRate, Stop, StopReason
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.run_dir.journal import Journal
from yolo_callbacks.run_dir.recorded_run import RecordedRun


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "callbacks").mkdir()
    return tmp_path


def write_manifest(folder, **content):
    (folder / "callbacks" / "run.json").write_text(json.dumps(content), encoding="utf-8")


def test_an_empty_folder_holds_a_run_that_has_not_begun(tmp_path):
    run = RecordedRun(tmp_path)
    assert (run.manifest, run.entries, run.decisions, run.stop, run.ended, run.restored) == (
        {},
        [],
        [],
        None,
        False,
        None,
    )


def test_epochs_and_decisions_come_from_the_journal(folder):
    before, stop = SetLearningRate("slower", factor=0.5), Stop("enough", 1)
    entry = Entry(EpochRecord(1, {"fitness": 0.1}), (stop,))
    Journal(folder / "callbacks" / "journal.jsonl").begin(JournalContent(Plan(planned_epochs=3), (before,), [entry]))
    run = RecordedRun(folder)
    assert [item.record for item in run.entries] == [entry.record]
    assert (run.decisions, run.stop) == ([before, stop], stop)


def test_what_run_json_says_of_the_end_comes_first(folder):
    write_manifest(folder, status="stopped", stop={"message": "Ctrl-C", "epoch": 2, "reason": "interrupted"})
    run = RecordedRun(folder)
    assert (run.stop, run.ended) == (Stop("Ctrl-C", 2, reason=StopReason.INTERRUPTED), True)


@pytest.mark.parametrize(
    ("status", "there"), [("finished", True), ("stopped", True), ("running", False), ("failed", False)]
)
def test_only_a_run_that_came_to_its_end_has_restored_weights(status, there, folder):
    kept = [{"file": "weights/top.pt", "role": "top"}, {"file": "weights/best.pt", "role": "restore"}]
    write_manifest(folder, status=status, checkpoints=kept)
    assert RecordedRun(folder).restored == (folder / "weights/best.pt" if there else None)
