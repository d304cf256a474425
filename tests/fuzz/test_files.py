"""Damaged files of a run: each public way to read them gives a result or one sentence, and what is good stays."""

import json
import shutil
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from typer.testing import CliRunner

import yolo_callbacks as ycb
from tests.fuzz.damage import DAMAGE, damaged
from tests.fuzz.effort import effort
from tests.fuzz.sentences import is_sentence
from yolo_callbacks.cli.arguments import UsageError
from yolo_callbacks.cli.main import app
from yolo_callbacks.cli.resume import NothingToDo, callbacks_of, find_run
from yolo_callbacks.core.classes import Classes, ClassResults
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.pictures.class_curves import read_curves
from yolo_callbacks.reporting.summary import Report
from yolo_callbacks.run_dir.class_log import ClassLog
from yolo_callbacks.run_dir.journal import Journal, read_journal
from yolo_callbacks.run_dir.manifest import Manifest, manifest_of
from yolo_callbacks.run_dir.recorded_run import RecordedRun
from yolo_callbacks.run_dir.recovery import find_resumable
from yolo_callbacks.run_dir.results_csv import mend_results_csv, read_results_csv
from yolo_callbacks.run_dir.training_states import TrainingStates, UnreadableStateError
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background

EPOCHS = 6
CALLBACKS = {"EarlyStopping": ycb.EarlyStopping(patience=3), "CSVLogger": ycb.CSVLogger()}
JOURNAL, MANIFEST, RESULTS = "callbacks/journal.jsonl", "callbacks/run.json", "results.csv"


def write_journal(path):
    journal = Journal(path)
    journal.begin(JournalContent(ycb.Plan(planned_epochs=9, base_lr=0.01), (), []))
    for epoch in range(1, EPOCHS + 1):
        metrics = {"metrics/mAP50-95(B)": 0.1 * epoch, "fitness": 0.1 * epoch, "val/box_loss": 1.0}
        record = ycb.EpochRecord(epoch, metrics, planned_epochs=9, elapsed=2.0 * epoch)
        kept = ycb.SaveCheckpoint("kept", epoch, "ModelCheckpoint", file="weights/kept.pt", value=0.1)
        journal.announce(record)
        journal.append(Entry(record, (kept,), {"EarlyStopping/wait": 0}), lambda: None)


def write_checkpoint(path, epoch):
    torch.manual_seed(0)
    content = {"epoch": epoch - 1, "ema": torch.nn.Linear(8, 8), "model": None, "optimizer": {"state": {}}}
    torch.save({**content, "train_args": {"epochs": 9, "save_dir": str(path.parent.parent)}}, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a run that was killed after epoch 6 of 9."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "callbacks").mkdir()
    (folder / "weights").mkdir()
    write_journal(folder / JOURNAL)
    header = "epoch,time,train/box_loss,metrics/mAP50-95(B),val/box_loss,lr/pg0\n"
    rows = [f"{epoch},{2.0 * epoch},1.5,{0.1 * epoch:.5f},2.0,0.01\n" for epoch in range(1, EPOCHS + 1)]
    (folder / RESULTS).write_text(header + "".join(rows))
    (folder / "args.yaml").write_text("task: detect\nmodel: yolo26n.yaml\nepochs: 9\npatience: 100\ndata: x.yaml\n")
    worker = Background("manifest")
    kept = {"file": "weights/kept.pt", "role": "best", "epoch": 6, "monitor": "fitness", "value": 0.6}
    stop = {"reason": "preempted", "message": "SIGTERM", "epoch": 6}
    notes = {"MLflow": {"run_id": "0"}}
    Manifest(folder / MANIFEST, worker).update(
        callbacks=configuration(CALLBACKS), checkpoints=[kept], status="stopped", stop=stop, notes=notes, exports=[]
    )
    worker.close(10)
    write_checkpoint(folder / "weights" / "last.pt", 6)
    write_checkpoint(folder / "weights" / "backup.pt", 5)
    classes = Classes(("a", "b"), ("mAP50-95(B)",), "mAP50-95(B)")
    log = ClassLog(folder / "callbacks" / "classes.csv", classes, 0)
    log.begin()
    for epoch in range(1, EPOCHS + 1):
        log.add(epoch, ClassResults(classes, {"mAP50-95(B)": [0.1, 0.2]}))
    states = TrainingStates(folder, 0, 1)
    states.write(6, {"every": 1, "state": {"model": torch.zeros(4)}, "elapsed": 12.0}, alone=True)
    return folder


@pytest.fixture(scope="module")
def run(whole, tmp_path_factory):
    """Return a function that damages a file of a fresh copy of the run."""
    folder = tmp_path_factory.mktemp("damaged") / "run"

    def damage(name, steps):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        file = folder / name
        data = damaged(file.read_bytes(), steps)
        file.write_bytes(data)
        return folder, data

    return damage


def result(read, *errors):
    """Return what is read; None after an error of these kinds, which must be one sentence."""
    try:
        return read()
    except errors as error:
        assert is_sentence(str(error)), str(error)


def lines_of(data):
    """Return the lines of a file that anything but its own damage leaves readable."""
    return set(data.split(b"\n"))


def read_everything(folder):
    """Read a run in every public way."""
    recorded = RecordedRun(folder)
    journal = result(lambda: recorded.journal, ValueError)
    if journal is not None:
        report = Report(folder, journal.entries, journal.decisions, recorded.stop, recorded.manifest, recorded.ended)
        assert all(is_sentence(text) for _, text in report.rows())
        assert recorded.restored is None
    result(lambda: find_run(str(folder)), UsageError, NothingToDo)
    result(lambda: callbacks_of(folder), UsageError)
    result(lambda: ycb.newest_checkpoint(folder), FileNotFoundError)
    result(lambda: ycb.replay(folder), ValueError)


@pytest.mark.parametrize("name", [JOURNAL, MANIFEST, RESULTS, "args.yaml", "weights/last.pt"])
def test_a_damaged_file_gives_a_result_or_a_sentence(name, run):
    @effort(25)
    @given(DAMAGE)
    def check(steps):
        read_everything(run(name, steps)[0])

    check()


def test_the_command_line_replays_a_damaged_run_or_says_why_not(run):
    @effort(6)
    @given(DAMAGE, DAMAGE)
    def check(journal, results):
        folder, _ = run(JOURNAL, journal)
        file = folder / RESULTS
        file.write_bytes(damaged(file.read_bytes(), results))
        answer = CliRunner().invoke(app, ["replay", str(folder)])
        assert answer.exit_code in (0, 2), answer.exception
        assert "Traceback" not in answer.output

    check()


def test_every_line_of_a_journal_that_is_whole_is_read(run, whole):
    epochs = {
        line: json.loads(line)["record"]["epoch"]
        for line in lines_of((whole / JOURNAL).read_bytes())
        if b"decis" in line and b"record" in line
    }
    assert len(epochs) == EPOCHS

    @effort(25)
    @given(DAMAGE)
    def check(steps):
        folder, data = run(JOURNAL, steps)
        content = result(lambda: read_journal(folder / JOURNAL), ValueError)
        if content is not None:
            assert {epochs[line] for line in lines_of(data) & set(epochs)} <= {
                entry.record.epoch for entry in content.entries
            }

    check()


def test_every_row_of_results_csv_that_is_whole_is_read_and_stays(run, whole):
    header, *rows = (whole / RESULTS).read_bytes().splitlines()
    epochs = {row: int(row.split(b",")[0]) for row in rows}

    @effort(25)
    @given(DAMAGE)
    def check(steps):
        folder, data = run(RESULTS, steps)
        # one without a line break may be torn: nothing tells that its last number is whole
        kept = {epochs[line] for line in set(data.split(b"\n")[:-1]) & set(epochs)}
        if data.startswith(header + b"\n"):
            assert kept <= {record.epoch for record in read_results_csv(folder / RESULTS)}
        mend_results_csv(folder / RESULTS, EPOCHS)
        mended = lines_of((folder / RESULTS).read_bytes())
        if data.startswith(header + b"\n"):
            assert kept <= {int(line.split(b",")[0]) for line in mended if line[:1].isdigit()}

    check()


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run, whole):
    good = (whole / "weights" / "last.pt").read_bytes()

    @effort(15)
    @given(DAMAGE)
    def check(steps):
        folder, data = run("weights/last.pt", steps)
        found = find_resumable(folder)
        assert found.epochs == (6 if found.path.name == "last.pt" else 5)
        if found.path.name == "last.pt" and data != good:  # only what no part's checksum covers
            weights = [
                torch.load(path / "weights" / "last.pt", weights_only=False)["ema"].weight for path in (folder, whole)
            ]
            assert torch.equal(*weights)

    check()


def test_a_damaged_state_is_read_as_it_was_or_refused_with_a_sentence(run, whole):
    name = next((whole / "weights").rglob("*.state")).relative_to(whole)

    @effort(15)
    @given(DAMAGE)
    def check(steps):
        folder, _ = run(name, steps)
        states = TrainingStates(folder, 0, 1)
        content = result(lambda: states.read(states.newest()), UnreadableStateError)
        assert content is None or content["epoch"] == 6

    check()


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_state_is_run(tmp_path):
    states = TrainingStates(tmp_path, 0, 1)
    states.write(3, {"every": 1, "state": {"model": Trap(tmp_path / "sprung")}}, alone=True)
    with pytest.raises(UnreadableStateError, match=r"epoch3-rank0of1\.state does not load \(UnpicklingError\)"):
        states.read(3)
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_class_table_keeps_its_whole_epochs(run, whole):
    classes = Classes(("a", "b"), ("mAP50-95(B)",), "mAP50-95(B)")
    name = "callbacks/classes.csv"
    header, *rows = (whole / name).read_bytes().splitlines(keepends=True)
    pairs = [b"".join(rows[i : i + 2]) for i in range(0, len(rows), 2)]

    @effort(15)
    @given(DAMAGE)
    def check(steps):
        folder, data = run(name, steps)
        with suppress(ValueError):
            read_curves(folder / name)
        ClassLog(folder / name, classes, EPOCHS).begin()
        if data.startswith(header):
            text = (folder / name).read_bytes()
            assert all(pair in text for pair in pairs if b"\n" + pair in data)

    check()


def test_a_run_json_that_cannot_be_read_is_kept(run, said):
    folder, data = run(MANIFEST, [])
    (folder / MANIFEST).write_bytes(data[:-20])
    worker = Background("manifest")
    Manifest(folder / MANIFEST, worker, resumed=True).update(status="running")
    worker.close(10)
    assert (folder / "callbacks" / "run.1.json").read_bytes() == data[:-20]
    assert manifest_of(folder)["status"] == "running"
    assert said.warnings == [f"{folder / MANIFEST} cannot be read and is kept as {folder / 'callbacks' / 'run.1.json'}"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", []),
        ("stop", {"reason": "a newer one", "message": "", "epoch": 1}),
        ("stop", {"reason": "plateau"}),
        ("checkpoints", {"a": 1}),
        ("checkpoints", [None, {"file": 5}, {"file": "a.pt", "epoch": "6"}]),
        ("checkpoints", [{"file": "a.pt", "role": "best"}]),
        ("exports", [3, {"passed": False}, {"file": "a", "fitness": {"exported": "x", "pt": 1}}]),
        ("callbacks", ["EarlyStopping"]),
        ("callbacks", {"EarlyStopping": {}}),
        ("notes", {"MLflow": 5}),
        ("status", {}),
        ("id", None),
    ],
)
def test_a_field_of_run_json_may_be_anything(field, value, run):
    folder, _ = run(MANIFEST, [])
    content = json.loads((folder / MANIFEST).read_text())
    storage.write_json(folder / MANIFEST, {**content, field: value})
    read_everything(folder)
