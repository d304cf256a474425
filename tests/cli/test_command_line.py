"""The command as a user runs it: a process of its own."""

import json
import re
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import SMALL, Training, plain, run_json
from yolo_callbacks.cli.main import app
from yolo_callbacks.cli.train import TrainRequest, train_command


def test_version_and_help(command):
    from yolo_callbacks import __version__

    assert command("--version").stdout.strip() == f"yolo-callbacks {__version__}"
    shown = command("--help")
    assert shown.returncode == 0
    assert "train" in shown.stdout


@pytest.mark.parametrize("words", [[], ["train"], ["lr-find"], ["replay"], ["callbacks"], ["runs"], ["compare"]])
def test_every_command_explains_itself(words):
    short, long = (CliRunner().invoke(app, [*words, option]) for option in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.stdout == long.stdout
    assert "-h, --help" in short.stdout


def test_help_needs_no_rich():
    code = "import sys\nfrom yolo_callbacks.cli.main import app\ntry:\n    app(['train', '-h'])\n"
    code += "except SystemExit:\n    print([name for name in ('rich.markdown', 'ultralytics') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_bad_usage_fails_before_anything_is_loaded(command, tmp_path):
    result = command("train", "epoch=3")
    assert result.returncode == 2, result.stderr
    assert "'epoch' is not an argument of Ultralytics (did you mean 'epochs'?)" in plain(result.stderr)
    assert not (tmp_path / "runs").exists()


def test_a_training_with_a_configuration(command, tmp_path, coco8):
    (tmp_path / "callbacks.yaml").write_text(
        "- EarlyStopping:\n    monitor: train_loss\n    mode: max\n    patience: 1\n    stopping_threshold: 0\n"
        "- CSVLogger\n"
    )
    result = command("train", "--data", str(coco8), "--epochs", "5", "--no-protect", "--config=callbacks.yaml", *SMALL)
    assert result.returncode == 0, result.stderr
    assert run_json(tmp_path)["stop"]["reason"] == "threshold"
    summary = plain(result.stdout)
    assert "Epochs  1 of 5" in summary
    assert "has reached stopping_threshold=0" in summary
    assert str(tmp_path / "runs" / "detect" / "train") in summary
    assert list(run_json(tmp_path)["callbacks"]) == ["EarlyStopping", "CSVLogger"]
    assert summary.count("Callbacks: EarlyStopping, CSVLogger\n") == 1
    assert summary.index("Best") < summary.index("Ended") < summary.index("Epochs  1 of 5")


def test_offline_coco8_is_replaced_with_a_warning_nobody_can_miss(command, tmp_path):
    words = [word for word in SMALL if not word.startswith("model=")]
    result = command("train", "--data", "coco8.yaml", "--epochs", "2", *words)
    assert result.returncode == 0, result.stderr
    assert "This is NOT coco8." in plain(result.stderr)
    assert "training yolo26n.yaml from scratch" in plain(result.stderr)
    data = run_json(tmp_path)
    assert (data["data_source"], data["data_asked_for"]) == ("stand-in", "coco8.yaml")
    assert data["model"] == "yolo26n.yaml"
    assert "yolo26n.pt is not on this machine" in data["model_source"]
    images = tmp_path / "datasets" / "coco8-standin" / "images"
    assert [len(list((images / split).iterdir())) for split in ("train", "val")] == [4, 4]


@pytest.mark.parametrize("model", ["yolo26n.pt", "my-own.pt"])
def test_a_model_that_cannot_be_had_is_an_error(command, coco8, model):
    result = command("train", "--data", str(coco8), "--model", model, *SMALL[:-1])
    assert result.returncode == 1
    assert model in plain(result.stderr)


def test_a_training_that_fails_is_told_and_recorded(command, tmp_path, coco8):
    result = command("train", "--data", str(coco8), "--epochs", "2", "imgsz=64", "batch=4", "model=yolo26n-pose.yaml")
    assert result.returncode == 1
    assert "Training failed:" in plain(result.stderr)


def test_a_class_that_is_misspelt_is_a_mistake_of_one_line(tmp_path, coco8, capfd):
    file = tmp_path / "callbacks.yaml"
    file.write_text("- EarlyStopping:\n    monitor: mAP50-95/persn\n")
    extra = [word.removeprefix("--") for word in SMALL if "=" in word]
    extra += ["imgsz=64", f"project={tmp_path / 'runs'}", "verbose=False"]
    code = train_command(TrainRequest(str(coco8), None, 1, file, None, False, False, extra))
    output, errors = (plain(text) for text in capfd.readouterr())
    assert code == 2
    assert "Error: EarlyStopping: 'mAP50-95/persn': this run has no class 'persn' (did you mean 'person'?)" in errors
    assert "Traceback" not in errors
    assert "Resume with" not in errors
    assert "Callbacks:" not in output  # it was told to be quiet


def test_resuming_takes_the_checkpoints_own_data(command, tmp_path, coco8):
    first = command("train", "--data", str(coco8), "--epochs", "3", "save_period=1", *SMALL)
    assert first.returncode == 0, first.stderr
    resumed = command("train", "--resume", "runs/detect/train/weights/epoch0.pt")
    assert resumed.returncode == 0, resumed.stderr
    assert run_json(tmp_path)["data"] == str(coco8)
    assert re.search(r"Epochs +3 of 3", plain(resumed.stdout))


def test_a_configuration_file_of_ultralytics(command, tmp_path, coco8):
    text = f"data: {coco8}\nepochs: 1\nimgsz: 64\nbatch: 4\nplots: false\ndevice: cpu\n"
    (tmp_path / "mine.yaml").write_text(text)
    result = command("train", "cfg=mine.yaml", SMALL[-1])
    assert result.returncode == 0, result.stderr
    assert (run_json(tmp_path)["data"], run_json(tmp_path)["args"]["epochs"]) == (str(coco8), 1)


def test_no_data_means_the_built_in_shapes_of_the_models_task(command, tmp_path):
    result = command("train", "model=yolo26n-pose.yaml", "epochs=1", "imgsz=32", "plots=False", "fraction=0.02")
    assert result.returncode == 0, result.stderr
    data = json.loads((tmp_path / "runs" / "pose" / "train" / "callbacks" / "run.json").read_text())
    assert data["data_source"] == "built-in shapes"
    assert data["data"].endswith("shapes-pose.yaml")


def test_one_ctrl_c_stops_after_the_epoch_with_everything_saved(tmp_path, coco8):
    training = Training(tmp_path, coco8)
    training.wait_for_epochs(2)
    training.interrupt()
    output, _ = training.process.communicate(timeout=120)
    assert training.process.returncode == 130, output
    assert "Stopping after this epoch" in plain(output)
    data = run_json(tmp_path)
    assert (data["status"], data["stop"]["reason"]) == ("stopped", "interrupted")
    folder = tmp_path / "runs" / "detect" / "train"
    rows = (folder / "callbacks" / "epochs.csv").read_text().splitlines()
    assert len(rows) - 1 == data["epochs"] >= 2
    assert (folder / "weights" / "best.pt").exists()
    assert (folder / "callbacks" / "curves.png").exists()
    assert "interrupted (Ctrl-C)" in plain(output)  # in the summary
    assert re.search(rf"Resume +yolo-cb train --resume {folder}\b", plain(output))
    assert plain(output).rstrip().endswith(f"Resume with: yolo-cb train --resume {folder}")


def test_a_second_ctrl_c_stops_at_once(tmp_path, coco8):
    training = Training(tmp_path, coco8)
    training.wait_for_epochs(2)
    training.interrupt()
    time.sleep(0.02)
    training.interrupt()
    output, _ = training.process.communicate(timeout=60)
    assert training.process.returncode == 130, output
    assert run_json(tmp_path)["status"] in ("interrupted", "stopped")  # the epoch may have ended in between
