"""Whether a model can be exported is known before its first epoch."""

import re
import subprocess

import pandas as pd
import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.e2e.odd_models import Different, Slow, Unknown, trainer_of
from tests.helpers import crash_in, run_json, wait_for
from yolo_callbacks.exports import process as export_process
from yolo_callbacks.exports.process import ExportProcess
from yolo_callbacks.support.checks import SettingError


@pytest.fixture
def started(monkeypatch):
    """The processes that export, as far as they have been started."""
    monkeypatch.setattr(export_process, "subprocess", subprocess)  # which two threads may wait for
    found, start = [], ExportProcess._start

    def note(process, *args):
        begun = start(process, *args)
        found.append(process._process)
        return begun

    monkeypatch.setattr(ExportProcess, "_start", note)
    return found


def test_what_passes_leaves_nothing_and_is_not_checked_again(train, tmp_path, said):
    runs = []
    for name in ("without", "with"):
        checks = [ycb.ExportCheck("torchscript")] if name == "with" else []
        with pytest.raises(KeyboardInterrupt):
            train(
                [*checks, ycb.CSVLogger()],
                name=name,
                epochs=2,
                before=lambda m: m.add_callback("on_train_batch_end", crash_in(2, KeyboardInterrupt)),
            )
        runs.append(tmp_path / name)
    assert len(said("ExportCheck: torchscript passed in ")) == 1
    assert said("; its outputs agree with the model's")
    frames = [pd.read_csv(run / "results.csv").drop(columns="time") for run in runs]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert {file.name for file in runs[0].rglob("*")} == {file.name for file in runs[1].rglob("*")}

    train([ycb.ExportCheck("torchscript"), ycb.CSVLogger()], model=YOLO(runs[1] / "weights" / "last.pt"), resume=True)
    assert len(said("ExportCheck: torchscript passed in ")) == 1
    assert said("ExportCheck: this run has already passed the check for torchscript")


def test_a_failure_ends_the_run_before_its_first_epoch(train, tmp_path):
    with pytest.raises(SettingError) as raised:
        train([ycb.ExportCheck("torchscript"), ycb.CSVLogger()], trainer=trainer_of(Unknown))
    log = tmp_path / "run" / "export" / "check-torchscript.log"
    assert str(raised.value) == (
        "ExportCheck: the model cannot be exported to torchscript: RuntimeError: Unsupported operator aten::roll "
        f"({log} has what the exporter printed): change the model, the format or its arguments, or set "
        "on_failure='warn' to train anyway"
    )
    assert "and what led to it" in log.read_text()
    assert not (tmp_path / "run" / "results.csv").exists()
    assert run_json(tmp_path / "run")["status"] == "failed"


def test_a_failure_is_a_warning_by_choice(train, tmp_path, said):
    run = train([ycb.ExportCheck("torchscript", on_failure="warn")], trainer=trainer_of(Different), epochs=1)
    assert len(run.history) == 1
    warnings = [line for line in said.warnings if "ExportCheck" in line]
    assert len(warnings) == 1
    cause = r"only .* agrees with the checkpoint's, instead of at least (99|50) % \("  # 50 where it chooses detections
    assert re.search(f"the model cannot be exported to torchscript: {cause}", warnings[0])
    assert run_json(run.save_dir)["status"] == "finished"


def test_a_check_takes_no_longer_than_it_may_and_ends_with_the_training(train, started):
    with pytest.raises(SettingError, match=r"cannot be exported to torchscript: it took longer than 0\.5 s"):
        train([ycb.ExportCheck("torchscript", timeout=0.5)], trainer=trainer_of(Slow))
    assert started.pop().poll() is not None

    def interrupt(trainer):
        wait_for(lambda: started)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            [ycb.ExportCheck("torchscript", on_failure="warn")],
            before=lambda m: m.add_callback("on_train_batch_end", interrupt),
            trainer=trainer_of(Slow),
            name="other",
        )
    wait_for(lambda: started[0].poll() is not None)


def test_formats_and_arguments_are_those_of_modelcheckpoint(monkeypatch):
    check = ycb.ExportCheck(["onnx", "torchscript"], {"dynamic": True})
    assert (check.export, check.export_args, check.on_failure) == (("onnx", "torchscript"), {"dynamic": True}, "error")
    with pytest.raises(ValueError, match=r"export='onx' is not one of .* \(did you mean 'onnx'\?\)"):
        ycb.ExportCheck("onx")
    with pytest.raises(ValueError, match=r"'dynamik' is not an export argument \(did you mean 'dynamic'\?\)"):
        ycb.ExportCheck("onnx", {"dynamik": True})
    with pytest.raises(ValueError, match="on_failure='warning' is not one of 'error', 'warn'"):
        ycb.ExportCheck("onnx", on_failure="warning")
    with pytest.raises(ValueError, match="names no format"):
        ycb.ExportCheck([])
    with pytest.raises(ImportError, match="export='mnn' needs MNN: pip install MNN"):
        ycb.ExportCheck("mnn")
