"""TensorBoard, read back with TensorBoard's own reader and through its server."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL, wait_for
from yolo_callbacks.reporting.event_log import steps_of
from yolo_callbacks.run_dir.journal import read_journal

MARK = "lr/factor"
PICTURES = "validation/labels_and_predictions"
SETTINGS = {**TINY, "batch": 2, "nbs": 2, "epochs": 3}  # two batches an epoch


def read(folder):
    """Return all that TensorBoard's own reader finds in a folder."""
    everything = dict.fromkeys(("scalars", "tensors", "histograms", "images"), 0)
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def scalars(folder):
    events = read(folder)
    return {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def steps(folder):
    return {tag: [step for step, _ in points] for tag, points in scalars(folder).items()}


def texts(folder):
    events = read(folder)
    return {
        tag.removesuffix("/text_summary"): {i.step: i.tensor_proto.string_val[0].decode() for i in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


def entries(run):
    return read_journal(run.save_dir / "callbacks" / "journal.jsonl").entries


def threads():
    return [thread.name for thread in threading.enumerate() if "TensorBoard" in thread.name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tensorboard")


@pytest.fixture(scope="module")
def train(shapes, folder):
    """Return a function that trains YOLO26n with callbacks, and returns the attachment."""

    def run(callbacks, name, **arguments):
        model = YOLO(TINY_MODEL, verbose=False)
        attachment = ycb.attach(model, callbacks)
        model.train(**{**SETTINGS, "data": str(shapes), "project": str(folder / "runs"), "name": name, **arguments})
        return attachment

    return run


class Forgetful(ycb.LearningRateScheduler):
    """Decides something to be read as text."""

    def __init__(self):
        super().__init__(lambda epoch, lr: lr / 2 if epoch >= 1 else lr)


def everything(**arguments):
    return [
        *ycb.default_callbacks()[:-1],
        Forgetful(),
        ycb.TensorBoard(
            histogram_freq=2, predictions_freq=2, update_freq="batch", write_steps_per_second=True, **arguments
        ),
    ]


@pytest.fixture(scope="module")
def whole(train):
    """A run with everything that there is to log; the first one in a process may draw other random numbers."""
    train([], "first", epochs=1)
    return train(everything(), "whole", model=TINY_MODEL)


@pytest.fixture(scope="module")
def without(train, whole):
    return train([*ycb.default_callbacks()[:-1], Forgetful()], "without")


# ----------------------------------------------------------------------------------------------- one run


def test_every_number_of_the_journal_is_there_at_its_epoch(whole):
    found, expected = scalars(whole.save_dir), {}
    names = {"fitness": "metrics/fitness", "lr_factor": MARK, "seconds": "speed/seconds_per_epoch"}
    names |= {"images_per_second": "speed/images_per_second", "rss_gb": "memory/rss_gb"}
    for entry in entries(whole):
        for name, value in entry.numbers.items():
            expected.setdefault(names.get(name, name), []).append((entry.record.epoch, value))
    assert len(expected) > 20
    assert {tag: found.pop(tag, None) for tag in expected} == {
        tag: [(epoch, pytest.approx(value, rel=1e-6)) for epoch, value in points] for tag, points in expected.items()
    }
    assert found.pop("best/fitness") == [(epoch, pytest.approx(0.0)) for epoch in (1, 2, 3)]
    assert found.pop("best/epoch") == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert all(value > 0 for _, value in expected["speed/steps_per_second"])
    assert not found


def test_losses_of_batches_are_in_a_folder_of_their_own(whole):
    found = scalars(whole.save_dir / "batches")
    assert set(found) == {"batch/box_loss", "batch/cls_loss", "batch/l1_loss"}
    for tag, points in found.items():
        assert [step for step, _ in points] == [1, 2, 3, 4, 5, 6]
        for entry in entries(whole):  # an epoch's loss is the mean of its batches'
            mean = np.mean([value for _, value in points[2 * entry.record.epoch - 2 : 2 * entry.record.epoch]])
            assert entry.numbers[tag.replace("batch/", "train/")] == pytest.approx(mean, abs=1e-5)


def test_decisions_and_the_run_are_there_as_text(whole):
    found = texts(whole.save_dir)
    decided = {(d.source, d.epoch): d.message for entry in entries(whole) for d in entry.decisions if d.label}
    assert {source for source, _ in decided} == {"ModelCheckpoint"}
    for (source, epoch), message in decided.items():
        assert found[f"decisions/{source}"][epoch] == f"epoch {epoch}: {message}"
    assert f"| model | {TINY_MODEL} |" in found["run/arguments"][0]
    assert "| ultralytics | 8." in found["run/about"][0]
    assert "| TensorBoard | {'class': 'TensorBoard'" in found["run/callbacks"][0]
    assert found["run/end"] == {3: "completed all 3 epochs"}


def test_histograms_of_weights_and_gradients(whole):
    import torch

    events = read(whole.save_dir)
    tags = set(events.Tags()["histograms"])
    model = YOLO(whole.save_dir / "weights" / "last.pt").model
    names = {name for name, _ in model.named_parameters()}
    assert {tag.removeprefix("weights/") for tag in tags if tag.startswith("weights/")} == names
    gradients = {tag.removeprefix("gradients/") for tag in tags if tag.startswith("gradients/")}
    assert gradients <= names
    assert len(gradients) > 0.9 * len(names)  # a layer that no object has reached has none
    assert {item.step for tag in tags for item in events.Histograms(tag)} == {1, 3}
    for name, parameter in model.named_parameters():
        values = events.Histograms(f"weights/{name}")[-1].histogram_value  # of the third epoch, the one that was saved
        expected = parameter.detach().float()
        if expected.numel() <= 4093:
            assert values.num == expected.numel()
            assert values.max == pytest.approx(float(expected.max()), rel=2e-3, abs=1e-4)  # last.pt has half precision
            assert values.sum == pytest.approx(float(expected.sum()), rel=2e-3, abs=2e-3 * expected.numel() ** 0.5)
        else:
            assert values.num == 4093
            assert abs(values.max) <= float(expected.abs().max()) * 1.002
    spread = [events.Histograms(f"gradients/{name}")[0].histogram_value for name in gradients]
    assert sum(item.max > item.min for item in spread) > 0.9 * len(spread)
    assert torch.isfinite(torch.tensor([item.sum_squares for item in spread])).all()


def test_predictions_are_drawn_beside_labels(whole, shapes):
    images = read(whole.save_dir).Images(PICTURES)
    assert [item.step for item in images] == [1, 3]
    picture = cv2.imdecode(np.frombuffer(images[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (images[0].height, images[0].width, 3)
    height, width = picture.shape[0] // 2, picture.shape[1] // 4  # two rows of two pairs
    halves = [
        (picture[y : y + height, x : x + width], picture[y : y + height, x + width : x + 2 * width])
        for y in (0, height)
        for x in (0, 2 * width)
    ]
    for labels, predictions in halves:
        differs = (labels != predictions)[30:-30].any(axis=-1).mean()  # without the titles
        assert 0.001 < differs < 0.5  # an untrained model is sure of nothing: only the labels have boxes
        assert labels.std() > 20
    # the two halves show one picture of the validation, and different pairs different ones
    assert np.abs(halves[0][1].astype(int) - halves[1][1]).mean() > 10


def test_the_graph_shows_the_layers(whole):
    names = {node.name for node in read(whole.save_dir).Graph().node}
    for layer in YOLO(whole.save_dir / "weights" / "last.pt").model.model:
        assert any(f"{type(layer).__name__}[{layer.i}]" in name for name in names), (layer.i, sorted(names)[:20])


def test_the_training_is_the_same_bit_by_bit(whole, without):
    frames = [pd.read_csv(run.save_dir / "results.csv").drop(columns="time") for run in (whole, without)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    names = [
        {path.relative_to(run.save_dir).as_posix() for path in run.save_dir.rglob("*") if path.is_file()}
        for run in (whole, without)
    ]
    added = names[0] - names[1]
    assert names[1] <= names[0]
    assert {re.sub(r"tfevents\..*", "tfevents", name) for name in added} == {
        "events.out.tfevents",
        "batches/events.out.tfevents",
    }
    import torch

    weights = [torch.load(run.save_dir / "weights/last.pt", weights_only=False)["model"] for run in (whole, without)]
    states = [model.state_dict() for model in weights]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@contextmanager
def server(folder):
    """Run `tensorboard --logdir` and give a function that asks it for something."""
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        lines = iter(process.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        threading.Thread(target=lambda: list(lines), daemon=True).start()

        def ask(path, body=None):
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
            with opener.open(request, timeout=30) as answer:
                return json.loads(answer.read())

        yield ask
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def test_a_running_server_shows_it(whole):
    with server(whole.save_dir.parent) as ask:
        wait_for(lambda: MARK in ask("data/plugin/scalars/tags").get("whole", ()))
        wait_for(lambda: "run/end/text_summary" in ask("data/plugin/text/tags").get("whole", ()))
        tags = ask("data/plugin/scalars/tags")
        assert {"whole", "whole/batches"} <= set(tags)
        assert set(tags["whole"]) == set(scalars(whole.save_dir))
        points = ask("data/plugin/scalars/scalars?run=whole&tag=train%2Fbox_loss")
        assert [point[1] for point in points] == [1, 2, 3]
        assert [point[2] for point in points] == pytest.approx([e.numbers["train/box_loss"] for e in entries(whole)])
        assert ask("data/plugin/images/tags")["whole"][PICTURES]["samples"] == 1
        drawn = set(ask("data/plugin/histograms/tags")["whole"])
        parameters = [name for name, _ in YOLO(TINY_MODEL, verbose=False).model.named_parameters()]
        assert {f"{kind}/{name}" for kind in ("weights", "gradients") for name in parameters} <= drawn
        assert ask("data/plugin/graphs/info")["whole"]["run_graph"]
        allowed = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        request = {"experimentName": "", "startIndex": 0, "sliceSize": 9, "allowedStatuses": allowed, "colParams": []}
        (group,) = [
            group
            for group in ask("data/plugin/hparams/session_groups", request)["sessionGroups"]
            if group["name"] == "whole"
        ]
        assert (group["hparams"]["imgsz"], group["hparams"]["optimizer"]) == (64.0, "AdamW")
        assert group["sessions"][0]["status"] == "STATUS_SUCCESS"
        assert {item["name"]["tag"]: item["value"] for item in group["metricValues"]} == {
            "best/fitness": 0.0,
            "best/epoch": 1.0,
        }


# ----------------------------------------------------------------------------------------------- interrupted runs


class Trouble(Exception):
    pass


class Fails(ycb.Callback):
    """Raises in the second epoch, where gradients and predictions are being looked at."""

    def __init__(self, event):
        self.event = event

    def _raise_at(self, event, epoch):
        if event == self.event and epoch == 2:
            raise Trouble("https://me:pw@host/ is not there")

    def on_train_batch_start(self, trainer):
        self._raise_at("on_train_batch_start", trainer.epoch + 1)

    def on_val_start(self, validator):
        if validator.training and self.event == "on_val_start" and self.epoch == 2:
            raise Trouble("https://me:pw@host/ is not there")

    def on_train_epoch_end(self, trainer):
        self.epoch, self.trainer = trainer.epoch + 1, trainer


def with_keras(**arguments):
    """The callback as it stands in many a Keras script."""
    return ycb.TensorBoard(log_dir="./logs", histogram_freq=1, **arguments)


@pytest.mark.parametrize("event", ["on_train_batch_start", "on_val_start"])
def test_an_error_closes_the_files_and_leaves_nothing_on_the_trainer(event, train, folder, monkeypatch):
    monkeypatch.chdir(folder)
    name, fails = f"fails-{event}", Fails(event)
    with pytest.raises(Trouble):
        train([fails, with_keras(predictions_freq=1)], name)
    trainer = fails.trainer
    assert "optimizer_step" not in vars(trainer)
    assert "update_metrics" not in vars(trainer.validator)
    assert not trainer.optimizer._optimizer_step_pre_hooks
    assert not threads()
    logs = folder / "logs" / name
    assert steps(logs)["train/box_loss"] == [1]
    assert texts(logs)["run/end"] == {1: "Trouble: https://***@host/ is not there"}
    assert not list((folder / "runs" / name).rglob("*tfevents*"))


def test_a_resumed_run_goes_on_where_the_events_end(train, folder, monkeypatch, shapes):
    """The end of the event file, in the middle of the first epoch, was lost with the process."""
    monkeypatch.chdir(folder)
    with pytest.raises(Trouble):
        train([Fails("on_train_batch_start"), *everything(log_dir="./resumed")], "stopped", epochs=5)
    logs = folder / "resumed" / "stopped"
    assert steps(logs)[MARK] == [1]
    (first,) = logs.glob("events*")
    size = first.stat().st_size

    (mark,) = [match.start() for match in re.finditer(MARK.encode(), first.read_bytes())]
    os.truncate(first, mark - 20)
    assert first.stat().st_size < size
    assert steps_of(logs, MARK) == set()

    model = YOLO(folder / "runs" / "stopped" / "weights" / "last.pt")
    run = ycb.attach(model, everything(log_dir="./resumed"))
    model.train(resume=True)
    assert run.history.index.tolist() == [1, 2, 3, 4, 5]
    assert [path.name for path in (folder / "resumed").iterdir()] == ["stopped"]
    found = steps(logs)
    assert {tuple(value) for value in found.values()} == {(1, 2, 3, 4, 5)}
    for entry in entries(run):
        assert dict(scalars(logs)["train/box_loss"])[entry.record.epoch] == pytest.approx(
            entry.numbers["train/box_loss"]
        )
    assert steps(logs / "batches")["batch/box_loss"] == list(range(1, 11))
    assert set(texts(logs)["run/arguments"]) == {0}
    with server(folder / "resumed") as ask:
        wait_for(lambda: "run/end/text_summary" in ask("data/plugin/text/tags").get("stopped", ()))
        for tag in found:
            points = ask(f"data/plugin/scalars/scalars?run=stopped&tag={urllib.request.quote(tag, safe='')}")
            assert [point[1] for point in points] == [1, 2, 3, 4, 5], tag
        points = ask("data/plugin/scalars/scalars?run=stopped%2Fbatches&tag=batch%2Fbox_loss")
        assert [point[1] for point in points] == list(range(1, 11))


def test_runs_of_the_same_name_do_not_mix(train, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for project in ("a", "b"):
        train([ycb.TensorBoard(log_dir="shared", write_graph=False)], "run", epochs=1, project=str(folder / project))
    assert {path.name for path in (folder / "shared").iterdir()} == {"run", "run-2"}
    for name in ("run", "run-2"):
        assert steps(folder / "shared" / name)[MARK] == [1]


# In a process of its own: Ultralytics' integrations are off wherever pytest is loaded.
PROGRAM = """
import json, os, signal, sys
from tests.helpers import TINY_MODEL
from ultralytics import YOLO, settings
import yolo_callbacks as ycb

data, project, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
settings.update({"sync": False, "tensorboard": True, "mlflow": False, "wandb": False})
model = YOLO(TINY_MODEL, verbose=False)
called = []
for event in ("on_pretrain_routine_start", "on_train_start"):
    model.add_callback(event, lambda trainer: called.append(1))
ycb.attach(model, [ycb.TensorBoard(histogram_freq=1)])
model.train(data=data, project=project, name="whole", **{**arguments, "epochs": 2})
print("CALLED", len(called))

class Kill(ycb.Callback):
    def act(self, session):
        if session.history.epoch == 2:
            session.files.wait()
            os.kill(os.getpid(), signal.SIGKILL)

model = YOLO(TINY_MODEL, verbose=False)
ycb.attach(model, [ycb.TensorBoard(), Kill()])
model.train(data=data, project=project, name="killed", **{**arguments, "epochs": 4})
"""


@pytest.fixture(scope="module")
def beside(shapes, tmp_path_factory):
    """Two runs in a process where Ultralytics' own integration is on; the second one was killed."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "config").mkdir()
    done = programs.run(
        ["-c", PROGRAM, shapes, folder, json.dumps(SETTINGS)],
        cwd=folder,
        env={**programs.environment(), "YOLO_CONFIG_DIR": str(folder / "config")},
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


def test_beside_the_integration_of_ultralytics_nothing_is_logged_twice(beside):
    folder, output = beside
    assert output.count("Ultralytics' own TensorBoard logging is off in this run") == 2
    assert "view at http://localhost" not in output  # its own line when it begins
    assert "CALLED 2" in output  # and nobody else has lost an event
    assert "Traceback" not in output
    for name in ("whole", "killed"):
        assert len(list((folder / name).rglob("*tfevents*"))) == 1
        assert {tuple(found) for found in steps(folder / name).values()} == {(1, 2)}  # no point of the final evaluation
    assert read(folder / "whole").Tags()["histograms"]


def test_a_killed_run_goes_on_in_the_same_folder(beside):
    folder, _ = beside
    model = YOLO(folder / "killed" / "weights" / "last.pt")
    run = ycb.attach(model, [ycb.TensorBoard()])
    model.train(resume=True)
    assert run.history.index.tolist() == [1, 2, 3, 4]
    assert {tuple(found) for found in steps(folder / "killed").values()} == {(1, 2, 3, 4)}
    files = sorted((folder / "killed").glob("*tfevents*"))
    assert len(files) == 2
    assert Counter(steps_of(folder / "killed", MARK)) == Counter([1, 2, 3, 4])
    assert files[1].read_bytes().count(MARK.encode()) == 2  # the first two epochs are not written again


# ----------------------------------------------------------------------------------------------- trouble


def test_a_log_dir_that_cannot_be_made_ends_nothing(train, folder, caplog):
    (folder / "file").write_text("")
    run = train([ycb.TensorBoard(log_dir=folder / "file")], "unwritable", epochs=1)
    assert run.history.index.tolist() == [1]
    (said,) = [line.getMessage() for line in caplog.records if "TensorBoard" in line.getMessage()]
    assert "TensorBoard.setup failed; training continues: NotADirectoryError" in said


class Removes(ycb.Callback):
    """Takes the folder of the events away in the second epoch, and gives its place back in the fourth."""

    def __init__(self, folder):
        self.folder = folder

    def act(self, session):
        session.files.wait()
        if session.history.epoch == 2:
            self.folder.rename(self.folder.with_name("gone"))
            self.folder.write_text("in the way")
        if session.history.epoch == 4:
            self.folder.unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's own thread
def test_files_that_cannot_be_written_are_made_good_later(train, folder, caplog):
    logs = folder / "trouble"
    run = train([ycb.TensorBoard(log_dir=logs, write_graph=False), Removes(logs / "lost")], "lost", epochs=6)
    assert run.history.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert {tuple(found) for found in steps(logs / "lost").values()} == {(1, 2, 3, 4, 5, 6)}
    assert set(texts(logs / "lost")["run/end"]) == {6}
    said = Counter(line.getMessage() for line in caplog.records if "failed; training continues" in line.getMessage())
    assert said
    assert set(said.values()) == {1}
