"""`yolo-cb train --resume RUN`."""

import json
import shutil
import signal

import pandas as pd
import pytest
import yaml

import yolo_callbacks as ycb
from tests.cli.helpers import Training, plain, run_json
from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks.cli.arguments import UsageError
from yolo_callbacks.cli.resume import NothingToDo, callbacks_of, find_run
from yolo_callbacks.config import load_config
from yolo_callbacks.core.lineup import configuration, label

KILLED = [-signal.SIGKILL, 137]


@pytest.fixture
def interrupted(tmp_path, shapes):
    """Return the directory of a run with callbacks from a file that was killed in mid-run."""
    (tmp_path / "mine.yaml").write_text("- CSVLogger\n- EarlyStopping:\n    monitor: val_loss\n    patience: 400\n")
    training = Training(tmp_path, shapes, "--config", "mine.yaml", epochs=25)
    training.wait_for_epochs(6)
    training.process.send_signal(signal.SIGKILL)
    assert training.process.wait() in KILLED
    return tmp_path / "runs" / "detect" / "train"


def epochs_in(run):
    return [pd.read_csv(run / name)["epoch"].tolist() for name in ("results.csv", "callbacks/epochs.csv")]


def test_a_killed_run_goes_on_from_the_newest_checkpoint_that_loads(interrupted, command, tmp_path):
    last = interrupted / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    moved = tmp_path / "elsewhere" / "old"
    moved.parent.mkdir()
    shutil.move(interrupted, moved)
    result = command("train", "--resume", "elsewhere/old", "patience=30")
    assert result.returncode == 0, result.stderr
    said = plain(result.stderr)
    assert "Resuming from elsewhere/old/weights/backup.pt, after epoch" in said
    assert "last.pt does not load (RuntimeError)" in said
    assert "Resuming exactly, after epoch" in plain(result.stdout)
    assert epochs_in(moved) == [list(range(1, 26))] * 2 or "patience=30" in run_in(moved)["stop"]["message"]
    assert {c["class"] for c in run_in(moved)["callbacks"].values()} == {
        "CSVLogger", "EarlyStopping", "BackupAndRestore", "PreemptionHandler",
    }  # fmt: skip
    assert run_in(moved)["callbacks"]["EarlyStopping"]["monitor"] == "val_loss"
    assert not interrupted.exists()

    again = command("train", "--resume", "elsewhere/old")
    assert again.returncode == 0
    assert "elsewhere/old is already finished; to train further, pass a checkpoint" in plain(again.stderr)


def run_in(folder):
    return json.loads((folder / "callbacks" / "run.json").read_text())


def test_a_signal_leaves_with_its_code_and_a_state_to_go_on_from(tmp_path, shapes, command):
    training = Training(tmp_path, shapes, epochs=400)
    training.wait_for_epochs(3)
    training.process.terminate()
    output, _ = training.process.communicate(timeout=60)
    assert training.process.returncode == 143, output
    data = run_json(tmp_path)
    assert (data["status"], data["stop"]["reason"]) == ("preempted", "preempted")
    run = tmp_path / "runs" / "detect" / "train"
    assert len(pd.read_csv(run / "callbacks" / "epochs.csv")) == data["epochs"]
    assert find_run(run).model == str(run / "weights" / "preempted.pt")
    assert plain(output).rstrip().endswith(f"Resume with: yolo-cb train --resume {run}")
    assert "PreemptionHandler (the last 2 added by yolo-cb; --no-protect leaves them out)" in plain(output)


def test_a_run_that_died_in_its_first_epoch_begins_anew(tmp_path, shapes, command):
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    arguments = {**TINY, "data": str(shapes), "epochs": 2, "model": TINY_MODEL, "mode": "train", "task": "detect"}
    (run / "args.yaml").write_text(yaml.safe_dump({**arguments, "name": "first", "save_dir": "/gone", "cfg": None}))
    result = command("train", "--resume", str(run))
    assert result.returncode == 0, result.stderr
    assert "was interrupted in its first epoch: starting over" in plain(result.stderr)
    assert epochs_in(run) == [[1, 2], [1, 2]]


def test_what_cannot_be_resumed_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        find_run(tmp_path / "nowhere")
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    (run / "weights" / "last.pt").write_text("torn")
    (run / "results.csv").write_text("epoch\n1\n2\n")
    with pytest.raises(UsageError, match=r"no checkpoint of .*run can be resumed: last.pt does not load"):
        find_run(run)
    assert issubclass(NothingToDo, Exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "x", "--model", "yolo26n.pt"], "leave out --model"),
        (["--resume", "x", "resume=True"], "'resume' is given twice"),
        (["--resume", "nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_usage(command, words, message):
    result = command("train", *words)
    assert result.returncode == 2
    assert message in plain(result.stderr)


def written(folder, callbacks):
    (folder / "callbacks").mkdir()
    content = {"callbacks": configuration(label(callbacks))}
    (folder / "callbacks" / "run.json").write_text(json.dumps(content))


def test_callbacks_are_set_up_as_the_run_had_them(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "- ModelCheckpoint:\n    filepath: '{epoch}'\n    save_top_k: 2\n    export: [onnx]\n"
        "- ReduceLROnPlateau:\n    patience: 0.25\n    min_lr: final\n- PreemptionHandler:\n    signals: SIGTERM\n"
    )
    callbacks = load_config(tmp_path / "mine.yaml") + ycb.default_callbacks()[3:]
    written(tmp_path, callbacks)
    assert repr(callbacks_of(tmp_path)) == repr(callbacks)


class Mine(ycb.Callback):
    pass


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        (ycb.EarlyStopping(monitor=lambda m: 1.0, mode="max"), "EarlyStopping had a function as 'monitor'"),
        (ycb.LearningRateScheduler(lambda epoch, lr: lr), "LearningRateScheduler had a function as 'schedule'"),
        (Mine(), "Mine is not a callback of this package"),
    ],
)
def test_callbacks_that_only_python_can_set_up_are_refused(tmp_path, callback, why):
    written(tmp_path, [callback])
    with pytest.raises(UsageError, match=f"{why}.*--config"):
        callbacks_of(tmp_path)


def test_a_run_without_callbacks_gets_those_of_the_command_line(tmp_path):
    assert callbacks_of(tmp_path) is None
