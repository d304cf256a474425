"""model.tune(), whose trials are commands of their own."""

import pytest
from ultralytics.cfg import _YOLO_CLI_COMMAND

import yolo_callbacks as ycb
from tests import programs
from tests.cli.helpers import environment
from tests.helpers import TINY
from yolo_callbacks.run_dir.manifest import read_manifest

PROGRAM = f"""
import sys
from tests.helpers import TINY_MODEL
from ultralytics import YOLO
import yolo_callbacks as ycb

model = YOLO(TINY_MODEL, verbose=False)
with ycb.callbacks_in_trials("mine.yaml"):
    model.tune(data=sys.argv[1], epochs=3, iterations=1, project=sys.argv[2], **{TINY!r})
"""


def test_every_trial_trains_with_the_callbacks_of_the_file(shapes, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "- EarlyStopping:\n    monitor: train_loss\n    stopping_threshold: 1000\n- CSVLogger\n"
        "- ModelCheckpoint: {export: torchscript, export_timeout: 0.01}\n"
    )
    done = programs.run(["-c", PROGRAM, shapes, tmp_path / "tuned"], cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "tuned").rglob("run.json"))
    assert "1/1 iterations complete ✅" in done.stdout
    assert runs  # Ultralytics removes those that are not the best
    for file in runs:
        manifest = read_manifest(file)
        assert sorted(manifest["callbacks"]) == ["CSVLogger", "EarlyStopping", "ModelCheckpoint"]
        assert (manifest["stop"]["reason"], manifest["epochs"]) == ("threshold", 1)
        assert [item["passed"] for item in manifest["exports"]] == [False]  # which does not make the trial a failure


def test_the_command_is_put_back():
    before = list(_YOLO_CLI_COMMAND)
    with pytest.raises(ZeroDivisionError), ycb.callbacks_in_trials():
        assert before != _YOLO_CLI_COMMAND
        raise ZeroDivisionError
    assert before == _YOLO_CLI_COMMAND


def test_a_mistake_in_the_file_comes_before_the_first_trial(tmp_path):
    (tmp_path / "bad.yaml").write_text("- EarlyStoping\n")
    with (
        pytest.raises(ycb.ConfigError, match="did you mean 'EarlyStopping'"),
        ycb.callbacks_in_trials(tmp_path / "bad.yaml"),
    ):
        pass
