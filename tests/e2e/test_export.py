"""Exports of real trainings: proved in a process of their own, and never a danger to the run that they follow."""

import contextlib
import io
import json
import logging
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, run_json, tiny_model, wait_for
from yolo_callbacks.cli.train import FAILURE, TrainRequest, train_command
from yolo_callbacks.datasets import build_shapes
from yolo_callbacks.exports import process as export_process
from yolo_callbacks.support import storage
from yolo_callbacks.support.log import LOGGER

# A step of the ONNX export that damages the model, dies, or takes its time: this package stands in for the real one.
DAMAGE = """
import onnx, numpy
from onnx import numpy_helper
def slim(model):
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.ndim == 4:
            weight.CopyFrom(numpy_helper.from_array(-values, weight.name))
    return model
"""
CRASH = "import os, signal\ndef slim(model): os.kill(os.getpid(), signal.SIGSEGV)\n"
HANG = "import time\ndef slim(model): time.sleep(600)\n"
WATCH = """
import time
from pathlib import Path
def slim(model):
    with open(Path(__file__).with_name("log"), "a") as log:
        log.write("begin\\n")
        log.flush()
        time.sleep(1)
        log.write("end\\n")
    return model
"""


def stand_in(source, folder, monkeypatch):
    """Put another package in the place of onnxslim, for the process that exports."""
    folder.mkdir()
    (folder / "onnxslim.py").write_text("__version__ = '0'\n" + source)
    monkeypatch.syspath_prepend(folder)
    return folder / "log"


@pytest.fixture
def real_processes(monkeypatch):
    """Let the exports be processes of `python -m yolo_callbacks...`, as with everybody."""
    monkeypatch.setattr(export_process, "subprocess", subprocess)


@pytest.fixture
def onnxslim(tmp_path, monkeypatch):
    """Return a function that does so."""
    return lambda source: stand_in(source, tmp_path / "packages", monkeypatch)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return build_shapes(tmp_path_factory.mktemp("data") / "sem", "semantic", train=16, val=4, size=64, max_objects=1)


@pytest.fixture
def train(pictures, tmp_path):
    """Return a function that trains a segmentation of pictures, whose metrics are above 0 after some seconds."""

    def run(*callbacks, before=None, resume=None, **arguments):
        model = YOLO(resume or tiny_model("semantic", tmp_path), verbose=False)
        attachment = ycb.attach(model, callbacks)
        if before is not None:
            before(model)
        settings = {**TINY, "batch": 8, "nbs": 8, "epochs": 3, "optimizer": "AdamW", "lr0": 0.003, "warmup_epochs": 0}
        settings = {**settings, "data": str(pictures / "data.yaml"), "project": str(tmp_path), "name": "run"}
        model.train(**({"resume": True} if resume else {**settings, **arguments}))
        return attachment

    return run


def report(folder):
    return json.loads((Path(folder) / "export" / "report.json").read_text())["exports"]


def files(folder):
    return sorted(path.name for path in (Path(folder) / "export").iterdir())


def exporting():
    """Return the processes that export, of all that this one has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command, _ = programs.command_and_environment(process)
            found += [process] if "yolo_callbacks.exports.worker" in command else []
        except psutil.Error:
            continue
    return found


def test_every_format_is_proved_on_the_data_of_the_run(train, tmp_path, monkeypatch, caplog):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO):
        run = train(ycb.ModelCheckpoint(export=["onnx", "torchscript", "openvino"]), epochs=15, lr0=0.01)
    assert list((tmp_path / "elsewhere").iterdir()) == []  # no runs/semantic/val of a validation
    assert files(run.save_dir) == [
        "best-fitness.onnx",
        "best-fitness.torchscript",
        "best-fitness_openvino_model",
        "report.json",
    ]
    checkpoint = run.save_dir / "weights" / "best-fitness.pt"
    items = report(run.save_dir)
    for item, name in zip(items, ("onnx", "torchscript", "openvino")):
        assert (item["format"], item["passed"], item["error"], item["note"]) == (name, True, None, None)
        path = run.save_dir / "export" / item["file"]
        assert (item["bytes"], item["sha256"]) == storage.fingerprint_tree(path)
        assert item["from"]["file"] == "weights/best-fitness.pt"
        assert item["from"]["sha256"] == storage.fingerprint(checkpoint)[1]
        assert item["from"]["epoch"] == run.history["fitness"].idxmax()
        metrics = item["metrics"]
        assert set(metrics["pt"]) == {"metrics/mIoU", "metrics/pixel_acc", "fitness"}
        assert metrics["pt"]["fitness"] > 0.1
        assert abs(metrics["difference"]["fitness"]) <= item["tolerance"] == 0.005
        assert metrics["exported"]["fitness"] == metrics["pt"]["fitness"] + metrics["difference"]["fitness"]
        assert item["latency_ms"]["pt"]["inference"] > 0 < item["latency_ms"]["exported"]["inference"]
        assert {"python", "ultralytics", "torch", "yolo-callbacks"} < set(item["versions"])
        assert (item["task"], item["device"]) == ("semantic", "cpu")
        assert "circle" in item["names"].values()
    assert {"onnx", "onnxruntime"} < set(items[0]["versions"])
    assert "openvino" in items[2]["versions"]
    assert items[0]["metrics"]["pt"] == items[2]["metrics"]["pt"]  # measured once
    short = run_json(run.save_dir)["exports"]
    assert [(item["format"], item["passed"]) for item in short] == [
        ("onnx", True),
        ("torchscript", True),
        ("openvino", True),
    ]
    assert "verified: fitness 0." in caplog.text


@pytest.fixture(scope="module")
def rejected(pictures, tmp_path_factory):
    """What a training of the command line leaves, into the folder of another run, whose export to ONNX is damaged."""
    folder, lines, said = tmp_path_factory.mktemp("rejected"), [], io.StringIO()
    (folder / "run" / "export").mkdir(parents=True)
    (folder / "run" / "export" / "best-fitness.onnx").write_text("of another run")
    config = folder / "callbacks.yaml"
    config.write_text("- ModelCheckpoint: {export: [onnx, torchscript]}\n")
    arguments = {**TINY, "batch": 8, "nbs": 8, "optimizer": "AdamW", "lr0": 0.003, "warmup_epochs": 0}
    words = [f"{key}={value}" for key, value in {**arguments, "project": folder, "name": "run"}.items()]
    request = TrainRequest(
        str(pictures / "data.yaml"), "yolo26n-sem.yaml", 3, config, None, False, False, [*words, "exist_ok=True"]
    )
    handler = logging.Handler()
    handler.emit = lines.append
    LOGGER.addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
            stand_in(DAMAGE, folder / "packages", patch)
            code = train_command(request)
    finally:
        LOGGER.removeHandler(handler)
    return SimpleNamespace(folder=folder / "run", code=code, said=" ".join(said.getvalue().split()), lines=lines)


def test_a_damaged_export_is_rejected_and_loses_nothing(rejected):
    damaged, proved = report(rejected.folder)
    assert (damaged["passed"], proved["passed"]) == (False, True)
    assert "differ by more than 0.005" in damaged["error"]
    assert damaged["metrics"]["pt"]["fitness"] > 0.1
    assert abs(damaged["metrics"]["difference"]["fitness"]) > 0.005
    (error,) = [record.getMessage() for record in rejected.lines if record.levelno == logging.ERROR]
    assert "weights/best-fitness.pt (epoch" in error
    assert "REJECTED" in error
    assert "renamed to best-fitness.onnx.rejected" in error
    assert YOLO(rejected.folder / "weights" / "best-fitness.pt").task == "semantic"
    data = run_json(rejected.folder)
    assert data["status"] == "finished"
    assert [(item["passed"], item["error"]) for item in data["exports"]] == [(False, damaged["error"]), (True, None)]


def test_a_file_of_another_run_is_not_taken_for_this_ones(rejected):
    assert files(rejected.folder) == [
        "best-fitness.onnx.log",
        "best-fitness.onnx.old",
        "best-fitness.onnx.rejected",
        "best-fitness.torchscript",
        "report.json",
    ]
    assert (rejected.folder / "export" / "best-fitness.onnx.old").read_text() == "of another run"


def test_the_command_line_ends_with_an_error_where_an_export_is_rejected(rejected):
    assert rejected.code == FAILURE
    assert "Error: the export of weights/best-fitness.pt to onnx was rejected: its fitness is" in rejected.said
    assert f"The training itself succeeded: {rejected.folder}" in rejected.said


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize(
    ("source", "settings", "why"),
    [
        (CRASH, {}, "its process was killed by SIGSEGV"),
        (HANG, {"export_timeout": 8}, "it took longer than 8 s"),
    ],
    ids=["crash", "hang"],
)
def test_an_exporter_that_crashes_or_hangs_is_survived(source, settings, why, train, onnxslim):
    onnxslim(source)
    run = train(ycb.ModelCheckpoint(export="onnx", **settings), epochs=1)
    (item,) = report(run.save_dir)
    assert (item["passed"], item["error"]) == (False, why)
    assert not exporting()
    assert not [name for name in files(run.save_dir) if name.endswith(".onnx")]  # nothing to deploy by mistake
    assert run_json(run.save_dir)["status"] == "finished"


def test_each_new_best_is_exported_while_the_training_goes_on(train, onnxslim, tmp_path):
    """Every epoch is a new best: one process at a time, the newest of those that wait, and at last the last one."""
    log, seen = onnxslim(WATCH), []
    patient = psutil.Process().nice() + 10

    def look(trainer):
        if trainer.epoch == 1:  # the export of epoch 1 goes on while epoch 2 trains
            wait_for(exporting)
            (one,) = exporting()
            wait_for(lambda: one.nice() == patient)  # its first act, but it has to come up first
            seen.append(one.nice())
        if trainer.epoch == 4:
            wait_for((tmp_path / "run" / "export" / "report.json").exists)

    def before(model):
        model.add_callback("on_train_batch_end", look)

    every = ycb.ModelCheckpoint("{epoch:02d}", monitor="lr/pg0", mode="min", export="onnx", export_when="best")
    run = train(every, before=before, epochs=7)
    told = log.read_text().split()
    assert 2 <= told.count("end") < 7
    assert ("end", "end") not in pairwise(told)  # nothing begins while another one is on its way to its end
    assert set(seen) == {patient}
    assert files(run.save_dir) == ["07.onnx", "report.json"]  # one proved file of a series, the newest
    (item,) = report(run.save_dir)
    assert (item["from"]["file"], item["from"]["epoch"], item["passed"]) == ("weights/07.pt", 7, True)
    assert not exporting()


def test_what_is_proved_is_not_exported_again_after_a_resume(train, onnxslim, tmp_path):
    log = onnxslim(WATCH)
    first = ycb.ModelCheckpoint(monitor="lr/pg0", mode="max", export="onnx", export_when="best")  # epoch 1 stays best

    def crash(trainer):
        if trainer.epoch == 1:
            wait_for((tmp_path / "run" / "export" / "report.json").exists)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(first, before=lambda model: model.add_callback("on_train_epoch_start", crash))
    (before,) = report(tmp_path / "run")
    train(first, resume=tmp_path / "run" / "weights" / "last.pt")
    assert report(tmp_path / "run") == [before]
    assert before["from"]["epoch"] == 1
    assert log.read_text().split() == ["begin", "end"]
    assert run_json(tmp_path / "run")["exports"][0]["passed"]


@pytest.mark.usefixtures("real_processes")
def test_an_interrupted_training_takes_its_export_along(train, onnxslim, tmp_path):
    onnxslim(HANG)

    def interrupt(trainer):
        if trainer.epoch == 1:
            wait_for(exporting)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            ycb.ModelCheckpoint(export="onnx", export_when="best"),
            before=lambda model: model.add_callback("on_train_batch_end", interrupt),
        )
    assert not exporting()
    assert files(tmp_path / "run") == []


def test_without_a_proof_nothing_is_validated(train):
    run = train(ycb.ModelCheckpoint(export="torchscript", export_tolerance=None), epochs=1)
    (item,) = report(run.save_dir)
    assert (item["passed"], item["metrics"]["exported"]) == (True, None)
    assert "not validated" in item["note"]
