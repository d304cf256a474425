"""What `yolo-cb train` makes of its words, and how it ends; trainings themselves are in test_command_line.py."""

import json
from types import SimpleNamespace

import pytest

import yolo_callbacks as ycb
from tests.cli.helpers import plain
from yolo_callbacks.cli import train as module
from yolo_callbacks.cli.resume import NothingToDo, Resumption
from yolo_callbacks.cli.sources import SourceError
from yolo_callbacks.cli.train import FAILURE, INTERRUPTED, OK, USAGE, TrainRequest, train_command
from yolo_callbacks.core.lineup import configuration, label
from yolo_callbacks.support.checks import SettingError

FIVE = ["EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint", "CSVLogger", "PlotLogger"]
TWO = ["BackupAndRestore", "PreemptionHandler"]
RESUME = "yolo-cb train --resume runs/a"


def request(*extra, **own):
    fields = dict.fromkeys(("data", "model", "epochs", "config", "resume"))
    return TrainRequest(**{**fields, "protect": True, "standin": True, "extra": list(extra), **own})


class Training:
    """Stands for the model, what is attached to it, and its sources; notes what it is trained with."""

    task, ckpt_path = "detect", "yolo26n.pt"

    def __init__(self, folder):
        self.error, self.stop_reason, self.save_dir = None, None, folder
        self.arguments, self.callbacks, self.attached, self.loaded = None, None, None, None
        self.source = ("coco8.yaml", {"data_source": "as given"}, "")

    def load(self, name, task):
        self.loaded = name, task
        return self, "" if name else "no network: an untrained model"

    def attach(self, model, callbacks):
        self.callbacks = [type(callback).__name__ for callback in callbacks]
        self.attached = SimpleNamespace(
            facts={},
            remark="",
            report=lambda: SimpleNamespace(resume_command=RESUME),
            stop=lambda *why: True,
            save_dir=self.save_dir,
            stop_reason=self.stop_reason,
        )
        return self.attached

    def train(self, **arguments):
        self.arguments = arguments
        if self.error is not None:
            raise self.error


@pytest.fixture
def training(tmp_path, monkeypatch):
    one = Training(tmp_path)
    monkeypatch.setattr(module, "load_model", one.load)
    monkeypatch.setattr(module, "find_data", lambda *asked: one.source)
    monkeypatch.setattr(module, "attach", one.attach)
    return one


def run(capfd, *extra, **own):
    """Run the command; return its code, and what it says on standard error."""
    code = train_command(request(*extra, **own))
    return code, " ".join(plain(capfd.readouterr().err).split())


def test_options_and_words_come_together(training, capfd):
    code, said = run(capfd, "imgsz=64", "task=detect", "mode=train", model="a.pt", epochs=3, data="x")
    assert (code, said) == (OK, "")
    assert training.loaded == ("a.pt", "detect")
    assert training.arguments == {"imgsz": 64, "epochs": 3, "data": "coco8.yaml"}
    assert training.attached.facts == {"data_source": "as given", "model_source": None}


@pytest.mark.parametrize(
    ("words", "own", "message"),
    [
        (["epochs=3"], {"epochs": 4}, "'epochs' is given twice"),
        (["data=x.yaml"], {"data": "y.yaml"}, "'data' is given twice"),
        (["epoch=3"], {}, "'epoch' is not an argument of Ultralytics (did you mean 'epochs'?)"),
        ([], {"resume": "runs/a", "model": "a.pt"}, "leave out --model"),
        ([], {"resume": "nowhere"}, "nowhere does not exist"),
        (["cfg=nowhere.yaml"], {}, "nowhere.yaml"),
    ],
)
def test_bad_usage_trains_nothing(words, own, message, training, capfd):
    code, said = run(capfd, *words, **own)
    assert code == USAGE
    assert said.startswith("Error: ")
    assert message in said
    assert training.arguments is None


def test_words_come_before_a_file_of_arguments(training, capfd, tmp_path):
    (tmp_path / "mine.yaml").write_text("imgsz: 64\nbatch: 2\n")
    assert run(capfd, f"cfg={tmp_path / 'mine.yaml'}", "batch=4")[0] == OK
    assert {name: training.arguments[name] for name in ("imgsz", "batch")} == {"imgsz": 64, "batch": 4}
    assert "cfg" not in training.arguments


def test_what_suits_the_source_gives_way_to_what_is_asked_for(training, capfd, monkeypatch):
    monkeypatch.setattr(module, "SUITABLE_ARGUMENTS", {"as given": {"imgsz": 160, "epochs": 20}})
    run(capfd, epochs=3)
    assert training.arguments == {"imgsz": 160, "epochs": 3, "data": "coco8.yaml"}


def test_what_is_not_as_asked_for_is_said_before_the_training(training, capfd):
    training.source = ("shapes.yaml", {"data_source": "shapes"}, "This is NOT coco8")
    _, said = run(capfd)
    assert said.startswith("Note: no network: an untrained model")
    assert "WARNING" in said
    assert "This is NOT coco8" in said
    assert training.attached.facts["model_source"] == "no network: an untrained model"


# ------------------------------------------------------------------------------------ callbacks


@pytest.mark.parametrize(
    ("config", "protect", "names", "remark"),
    [
        (None, True, FIVE + TWO, " (the last 2 added by yolo-cb; --no-protect leaves them out)"),
        (None, False, FIVE, ""),
        ("- CSVLogger\n", True, ["CSVLogger", *TWO], " (the last 2 added by yolo-cb; --no-protect leaves them out)"),
        (
            "- BackupAndRestore\n- CSVLogger\n",
            True,
            ["BackupAndRestore", "CSVLogger", "PreemptionHandler"],
            " (the last one added by yolo-cb; --no-protect leaves them out)",
        ),
        ("- BackupAndRestore\n- PreemptionHandler\n", True, TWO, ""),
        ("- CSVLogger\n", False, ["CSVLogger"], ""),
    ],
)
def test_which_callbacks_take_part(config, protect, names, remark, training, capfd, tmp_path):
    file = tmp_path / "mine.yaml" if config else None
    if file is not None:
        file.write_text(config)
    assert run(capfd, config=file, protect=protect)[0] == OK
    assert (training.callbacks, training.attached.remark) == (names, remark)


def test_a_mistake_in_a_configuration_is_bad_usage(training, capfd, tmp_path):
    (tmp_path / "mine.yaml").write_text("- CSVLoger\n")
    code, said = run(capfd, config=tmp_path / "mine.yaml")
    assert code == USAGE
    assert "did you mean" in said
    assert training.arguments is None


# ------------------------------------------------------------------------------------ resuming


@pytest.fixture
def found(training, monkeypatch, tmp_path):
    """Return what is found of an earlier run."""
    (tmp_path / "callbacks").mkdir()
    one = Resumption("runs/a/weights/last.pt", {"resume": True, "imgsz": 64}, tmp_path, "Resuming from last.pt")
    monkeypatch.setattr(module, "find_run", lambda run: one)
    return one


def test_a_resumed_run_keeps_its_callbacks_its_model_and_its_data(found, training, capfd):
    content = {"callbacks": configuration(label([ycb.CSVLogger()]))}
    (found.folder / "callbacks" / "run.json").write_text(json.dumps(content))
    code, said = run(capfd, "imgsz=96", resume="runs/a")
    assert (code, said) == (OK, "Note: Resuming from last.pt")
    assert training.loaded[0] == "runs/a/weights/last.pt"
    assert training.arguments == {"resume": True, "imgsz": 96}
    assert (training.callbacks, training.attached.remark) == (["CSVLogger"], " (restored from the run)")


def test_a_run_that_names_no_callbacks_gets_the_defaults_and_says_so(found, training, capfd):
    assert "does not record its callbacks: using the defaults." in run(capfd, resume="runs/a")[1]
    assert training.callbacks == FIVE + TWO


def test_a_configuration_replaces_the_callbacks_of_the_run(found, training, capfd, tmp_path):
    (tmp_path / "mine.yaml").write_text("- CSVLogger\n")
    assert run(capfd, resume="runs/a", config=tmp_path / "mine.yaml")[1] == "Note: Resuming from last.pt"
    assert training.callbacks == ["CSVLogger", *TWO]


def test_a_finished_run_is_no_failure(training, capfd, monkeypatch):
    def find(run):
        raise NothingToDo("already finished")

    monkeypatch.setattr(module, "find_run", find)
    assert run(capfd, resume="runs/a") == (OK, "Note: already finished")
    assert training.arguments is None


# ------------------------------------------------------------------------------------ the end


@pytest.mark.parametrize(
    ("error", "code", "words", "traced"),
    [
        (SettingError("no such layer"), USAGE, "Error: no such layer", False),
        (SourceError("no data"), FAILURE, "Error: no data", False),
        (ValueError("[a mistake]"), FAILURE, "Training failed: ValueError: [a mistake]", True),
        (KeyboardInterrupt(), INTERRUPTED, "Interrupted.", False),
    ],
)
def test_a_training_that_fails(error, code, words, traced, training, capfd):
    training.error = error
    got, said = run(capfd, model="a.pt")
    assert got == code
    assert said.endswith(f"{words} Resume with: {RESUME}")
    assert ("Traceback" in said) == traced


def test_what_fails_before_the_training_needs_no_resume(training, capfd, monkeypatch):
    def load(name, task):
        raise SourceError("model a.pt is not available")

    monkeypatch.setattr(module, "load_model", load)
    assert run(capfd, model="a.pt") == (FAILURE, "Error: model a.pt is not available")


def test_leaving_keeps_its_code_and_says_how_to_resume(training, capfd):
    training.error = SystemExit(143)
    with pytest.raises(SystemExit) as caught:
        train_command(request(model="a.pt"))
    assert caught.value.code == 143
    assert f"Resume with: {RESUME}" in plain(capfd.readouterr().err)


def test_ranks_that_a_signal_has_ended_give_its_code(training, capfd, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr(module, "forward_signals", lambda model: nullcontext([15]))
    training.error = RuntimeError("the launcher failed")
    assert run(capfd, model="a.pt") == (143, f"Resume with: {RESUME}")


@pytest.mark.parametrize(
    ("reason", "code"), [(ycb.StopReason.INTERRUPTED, INTERRUPTED), (ycb.StopReason.PLATEAU, OK), (None, OK)]
)
def test_only_ctrl_c_makes_an_early_end_another_code(reason, code, training, capfd):
    training.stop_reason = reason
    assert run(capfd, model="a.pt") == (code, f"Resume with: {RESUME}" if code else "")


@pytest.mark.parametrize("counts", [True, False])
def test_a_rejected_export_fails_the_command_if_it_counts(counts, training, capfd, tmp_path):
    (tmp_path / "callbacks").mkdir()
    items = [
        {"from": "a.pt", "format": "onnx", "passed": True},
        {"from": "a.pt", "format": "tflite"},
        {"from": "a.pt", "format": "openvino", "passed": False, "error": "mAP50-95 fell by 0.2"},
    ]
    (tmp_path / "callbacks" / "run.json").write_text(json.dumps({"exports": items}))
    code, said = run(capfd, model="a.pt", exports_count=counts)
    assert code == (FAILURE if counts else OK)
    assert said == (
        "Error: the export of a.pt to openvino was rejected: mAP50-95 fell by 0.2. "
        f"The training itself succeeded: {tmp_path}"
    )
