"""MLflow against a real server with a local SQLite store, which is started here and at times killed."""

import json
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from ultralytics import YOLO

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported

import mlflow
from mlflow import MlflowClient

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL, record
from yolo_callbacks.callback import Callback
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.mlflow_lookup import ID_TAG, Intent
from yolo_callbacks.reporting.mlflow_run import MLflowRun
from yolo_callbacks.reporting.mlflow_server import MLflowServer
from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.run_dir.journal import read_journal

PASSWORD, TOKEN = "pw-0f3c9ad2b1", "tok-77e1c0ffee5"


class Server:
    """`mlflow server` on a port of its own; its store outlives it."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--backend-store-uri", f"sqlite:///{self.folder / 'store.db'}", "--workers", "1"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # ten more processes
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self.is_up():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def is_up(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module", autouse=True)
def surroundings():
    """No proxy, and none of the variables that MLflow understands."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("MLFLOW_") and name != "MLFLOW_DISABLE_TELEMETRY":
                patch.delenv(name)
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory, surroundings):
    running = Server(tmp_path_factory.mktemp("mlflow"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(server):
    return MlflowClient(server.uri)


def the_run(client, experiment):
    """Return the only run of an experiment."""
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def points(client, run, metric="lr_factor"):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def files_at(client, run, path=None):
    for item in client.list_artifacts(run.info.run_id, path):
        yield from files_at(client, run, item.path) if item.is_dir else [item.path]


def epochs_of(folder):
    return {entry.record.epoch: entry for entry in read_journal(folder / "callbacks" / "journal.jsonl").entries}


class Odd(Callback):
    """Measures what no server likes."""

    priority = Priority.MEASURE

    def measures(self, session):
        return ("odd/a & (b)", "odd/a & b", "odd/..", "odd/nan", "odd/inf")

    def measure(self, session):
        return dict(zip(self.measures(session), (1.0, 2.0, 3.0, math.nan, math.inf)))


class CallAt(Callback):
    """Calls a function after an epoch, before it is reported."""

    priority = Priority.MEASURE

    def __init__(self, epoch, function):
        self.epoch, self.function = epoch, function

    def act(self, session):
        if session.history.epoch == self.epoch:
            self.function()


def press_ctrl_c():
    raise KeyboardInterrupt


def fail():
    raise RuntimeError(f"cannot read http://me:{PASSWORD}@example.org/data.zip")


# ----------------------------------------------------------------------------------------------- a whole run


def of_mlflow():
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}


class Whole:
    """A training that ended by itself, on a server that wants a login."""

    def __init__(self, folder, client, output):
        self.folder, self.client, self.output = folder, client, output
        self.run = the_run(client, "trial")
        self.epochs = epochs_of(folder)


@pytest.fixture(scope="module")
def whole(server, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    long = "x" * 700
    callbacks = [
        Odd(),
        ycb.EarlyStopping(patience=50, monitor="fitness"),
        ycb.ModelCheckpoint(),
        ycb.ModelCheckpoint("e{epoch}", every_n_epochs=1),
        ycb.CSVLogger(),
        ycb.PlotLogger(),
        ycb.MLflow("trial", tracking_uri=f"http://me:{PASSWORD}@127.0.0.1:{server.port}", tags={"site": long}),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
        before, texts = of_mlflow(), []
        patch.setattr("sys.stdout.write", texts.append)
        import logging

        handler = logging.Handler()
        handler.emit = lambda item: texts.append(item.getMessage())
        logging.getLogger().addHandler(handler)
        logging.getLogger("ultralytics").addHandler(handler)
        logging.getLogger("mlflow").addHandler(handler)
        try:
            model = YOLO(TINY_MODEL, verbose=False)
            ycb.attach(model, callbacks)
            model.train(**{**TINY, "plots": True}, data=str(shapes), epochs=3, project=str(folder), name="run")
        finally:
            for name in (None, "ultralytics", "mlflow"):
                logging.getLogger(name).removeHandler(handler)
        assert of_mlflow() == before
    texts.append(repr(callbacks[-1]))
    assert callbacks[-1].current_run_id == the_run(MlflowClient(server.uri), "trial").info.run_id
    return Whole(folder / "run", MlflowClient(server.uri), "\n".join(texts))


def test_a_run_has_its_parameters(whole):
    params = whole.run.data.params
    assert [params[name] for name in ("epochs", "model", "imgsz", "patience")] == ["3", TINY_MODEL, "64", "100"]
    assert params["EarlyStopping.patience"] == "50"
    assert params["ModelCheckpoint-2.every_n_epochs"] == "1"
    assert not any(name.startswith("MLflow") for name in params)


def test_every_number_is_there_once_at_its_epoch(whole):
    names = {"metrics/mAP50-95(B)": "metrics/mAP50-95B", "val/box_loss": "val/box_loss"}
    names |= {"EarlyStopping/wait": "EarlyStopping/wait", "lr_factor": "lr_factor", "lr/pg0": "lr/pg0"}
    names |= {"odd/a & (b)": "odd/a _ b", "odd/a & b": "odd/a _ b_", "odd/..": "odd/__"}
    for own, name in names.items():
        expected = [(epoch, entry.numbers[own]) for epoch, entry in whole.epochs.items()]
        assert points(whole.client, whole.run, name) == expected, own
    assert len(whole.run.data.metrics) == len(whole.epochs[3].numbers)


def test_numbers_that_are_none_come_back_as_mlflow_keeps_them(whole):
    assert all(math.isnan(value) for _, value in points(whole.client, whole.run, "odd/nan"))
    assert points(whole.client, whole.run, "odd/inf") == [(epoch, sys.float_info.max) for epoch in (1, 2, 3)]


def test_a_run_can_be_found_by_its_tags(whole):
    tags = whole.run.data.tags
    manifest = json.loads((whole.folder / "callbacks" / "run.json").read_text())
    assert tags[ID_TAG] == manifest["id"]
    assert manifest["notes"]["MLflow"] == {"run_id": whole.run.info.run_id}
    assert tags["version.yolo_callbacks"] == ycb.__version__
    assert (tags["task"], tags["epochs"], tags["save_dir"]) == ("detect", "3", str(whole.folder))
    assert tags["mlflow.source.name"]
    assert whole.run.info.run_name == "run"
    assert tags["site"] == "x" * 700
    assert "stop.reason" not in tags
    assert "mlflow.parentRunId" not in tags


def test_the_files_are_there_as_they_are_on_disk(whole, tmp_path):
    stored = whole.client.download_artifacts(whole.run.info.run_id, "", str(tmp_path))
    names = set(files_at(whole.client, whole.run))
    assert {"weights/best.pt", "weights/best-fitness.pt", "callbacks/epochs.csv", "results.csv", "results.png"} < names
    assert {"args.yaml", "callbacks/run.json", "callbacks/journal.jsonl", "callbacks/curves.png"} < names
    best = {"weights/best.pt", "weights/best-fitness.pt", "weights/e1.pt"}
    assert {name for name in names if name.startswith("weights/")} == best
    assert len(list((whole.folder / "weights").iterdir())) > len(best)
    for name in names:
        assert (Path(stored) / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_it_is_finished_and_nothing_else_was_begun(whole):
    assert whole.run.info.status == "FINISHED"
    assert whole.run.info.end_time >= whole.run.info.start_time
    assert mlflow.active_run() is None
    assert f"127.0.0.1:{whole.client.tracking_uri.rpartition(':')[2]}/#/experiments/" in whole.output


def test_no_secret_is_anywhere(whole, server):
    secrets = [text.encode() for text in (PASSWORD, TOKEN)]
    files = [path for place in (whole.folder, server.folder) for path in place.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        assert not any(secret in data for secret in secrets), path
    assert "MLflow: " in whole.output
    assert not any(secret.decode() in whole.output for secret in secrets)


# ----------------------------------------------------------------------------------------------- other ends


def test_an_exception_makes_it_failed_and_an_upload_is_cut_short(train, client, server, said):
    callbacks = [CallAt(2, fail), ycb.MLflow("failed", tracking_uri=server.uri, artifacts_timeout=0.0)]
    with pytest.raises(RuntimeError):
        train(callbacks)
    run = the_run(client, "failed")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "RuntimeError: cannot read http://***@example.org/data.zip"
    assert [step for step, _ in points(client, run)] == [1, 2]
    assert said("longer than artifacts_timeout=0 s")


def test_an_interrupted_training_goes_on_in_the_same_run(train, client, server, tmp_path, said):
    with pytest.raises(KeyboardInterrupt):
        train([CallAt(2, press_ctrl_c), ycb.MLflow("interrupted", tracking_uri=server.uri)], epochs=4)
    first = the_run(client, "interrupted")
    assert first.info.status == "KILLED"
    assert not list(files_at(client, first))

    model = YOLO(tmp_path / "run" / "weights" / "last.pt")
    ycb.attach(model, [ycb.EarlyStopping(patience=2), ycb.MLflow("elsewhere", tracking_uri=server.uri)])
    model.train(resume=True, patience=7)
    run = the_run(client, "interrupted")
    assert run.info.run_id == first.info.run_id
    assert client.get_experiment_by_name("elsewhere") is None
    assert run.info.status == "FINISHED"
    assert run.info.end_time > first.info.end_time
    assert [step for step, _ in points(client, run)] == [1, 2, 3]
    assert (run.data.params["patience"], run.data.tags["resumed.patience"]) == ("100", "7")
    assert run.data.tags["resumed_after"] == "2"
    assert (run.data.tags["stop.reason"], run.data.tags["stop.epoch"]) == ("plateau", "3")
    assert run.data.params["EarlyStopping.patience"] == "2"
    assert "weights/best.pt" in set(files_at(client, run))
    assert said("MLflow: patience changed since this run began")


PROGRAM = """
import os, signal, sys
from ultralytics import YOLO, settings
import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL

class Kill(ycb.Callback):
    def act(self, session):
        if session.history.epoch == 2:
            tracker._outbox._worker.wait()
            os.kill(os.getpid(), signal.SIGKILL)

settings.update({"sync": False, "tensorboard": False, "mlflow": True, "wandb": False})
tracker = ycb.MLflow()
model = YOLO(TINY_MODEL, verbose=False)
ycb.attach(model, [tracker, Kill()])
model.train(**TINY, data=sys.argv[1], epochs=3, project=sys.argv[2], name="run")
"""


def test_a_killed_training_beside_ultralytics_own_logging(shapes, client, server, tmp_path, monkeypatch):
    environment = {
        **programs.environment(),
        "YOLO_CONFIG_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_EXPERIMENT_NAME": "killed",
        "MLFLOW_RUN": "by the environment",
    }
    done = programs.run(["-c", PROGRAM, shapes, tmp_path], env=environment)
    output = done.stdout + done.stderr
    assert done.returncode == -signal.SIGKILL, output
    assert output.count("Ultralytics' own MLflow logging is off for this run") == 1
    assert "logging run_id(" not in output  # which is what theirs says
    run = the_run(client, "killed")
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "by the environment"
    assert [step for step, _ in points(client, run)] == [1, 2]
    assert "lr/pg0" in run.data.metrics
    assert "train/box_loss" in run.data.metrics

    model = YOLO(tmp_path / "run" / "weights" / "last.pt")
    ycb.attach(model, [ycb.MLflow(tracking_uri=server.uri)])
    model.train(resume=True)
    after = the_run(client, "killed")
    assert after.info.run_id == run.info.run_id
    assert after.info.status == "FINISHED"
    for name in after.data.metrics:
        assert [step for step, _ in points(client, after, name)] == [1, 2, 3], name


def test_under_an_active_run_it_is_nested_also_from_another_process(train, client, server, monkeypatch):
    monkeypatch.setattr("yolo_callbacks.callbacks.mlflow.is_worker", lambda: False)
    mlflow.set_tracking_uri(server.uri)
    try:
        experiment = client.create_experiment("nested")
        with mlflow.start_run(experiment_id=experiment, run_name="mine") as parent:
            train([ycb.MLflow(run_name="child")], epochs=1)
            assert mlflow.active_run().info.run_id == parent.info.run_id
            assert client.get_run(parent.info.run_id).info.status == "RUNNING"
            launched = pickle.dumps(ycb.MLflow(run_name="launched"))
            train([ycb.MLflow("beside", tracking_uri=f"http://localhost:{server.port}")], epochs=1, name="beside")
        monkeypatch.setattr("yolo_callbacks.callbacks.mlflow.is_worker", lambda: True)
        train([pickle.loads(launched)], epochs=1, name="launched")
    finally:
        mlflow.set_tracking_uri(None)
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"mine", "child", "launched"}
    assert not runs["mine"].data.params
    assert not runs["mine"].data.metrics
    for name in ("child", "launched"):
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[name].info.status == "FINISHED"
    assert runs["launched"].data.tags["mlflow.source.name"] == sys.argv[0]
    assert "mlflow.parentRunId" not in the_run(client, "beside").data.tags  # of another server, for all we know


# ----------------------------------------------------------------------------------------------- servers that fail


class Timed(ycb.MLflow):
    """Notes how long its steps take."""

    def setup(self, session):
        self.seconds = {"act": [], "deliver": []}
        super().setup(session)

    def act(self, session):
        self._timed("act", super().act, session)

    def deliver(self, session, error):
        self._timed("deliver", super().deliver, session, error)

    def _timed(self, step, function, *args):
        start = time.monotonic()
        function(*args)
        self.seconds[step].append(time.monotonic() - start)


def test_a_server_that_was_down_gets_what_it_has_missed(train, client, server, tmp_path, said):
    tracker = Timed("missed", tracking_uri=server.uri, log_artifacts=["logs"])

    def wait():
        tracker._outbox._worker.wait()

    steps = [CallAt(1, wait), CallAt(2, server.stop), CallAt(4, server.start)]
    train([*steps, tracker], epochs=5)
    run = the_run(client, "missed")
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(client, run)] == [1, 2, 3, 4, 5]
    assert max(tracker.seconds["act"]) < 1
    assert len(said("does not answer")) == 1
    assert set(files_at(client, run)) == {
        *("args.yaml", "results.csv"),
        *("callbacks/journal.jsonl", "callbacks/run.json"),
    }


@pytest.mark.parametrize("answers", [False, None])
def test_a_server_that_never_answers_costs_little_and_is_told_once(answers, train, tmp_path, said):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers is None:  # connects, and then says nothing
            listener.listen(64)
        tracker = Timed(tracking_uri=f"http://me:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}", timeout=2.0)
        train([ycb.CSVLogger(), tracker], epochs=2)
    assert max(tracker.seconds["act"]) < 1
    assert max(tracker.seconds["deliver"]) < 6
    assert tracker.current_run_id is None
    assert pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")["epoch"].tolist() == [1, 2]
    assert len(said("epochs 1 to 2 did not reach http://***@127.0.0.1")) == 1
    if answers is False:
        assert len(said("does not answer (ConnectionError)")) == 1
    assert not said(PASSWORD)


# ----------------------------------------------------------------------------------------------- without a training


def entries(*epochs, numbers=()):
    return [Entry(record(epoch, 0.1, measures=dict.fromkeys(numbers, 0.5))) for epoch in epochs]


def run_at(server, training, *epochs, numbers=(), **intent):
    known = []
    intent = Intent(training, experiment="bare", name=training, **intent)
    run = MLflowRun(MLflowServer(server.uri), intent, entries(*epochs, numbers=numbers), known.append)
    run.update()
    assert known == [run.run_id]
    return run


def test_what_is_sent_twice_is_there_once(server, client):
    run = run_at(server, "twice", 1, 2)
    run._next = 0
    run.update()
    assert [step for step, _ in points(client, client.get_run(run.run_id))] == [1, 2]


def test_a_run_is_found_again_though_its_id_was_lost(server, client):
    first = run_at(server, "lost", 1, 2)
    again = run_at(server, "lost", 1, 2, 3)
    assert again.run_id == first.run_id
    assert [step for step, _ in points(client, client.get_run(first.run_id))] == [1, 2, 3]


def test_epochs_that_run_again_are_sent_again_and_told(server, client, said):
    first = run_at(server, "again", 1, 2, 3)
    run_at(server, "again", 1, remembered=first.run_id)
    assert said("epochs 2 to 3 run again")


def test_a_deleted_run_is_followed_by_a_new_one_with_all_epochs(server, client, said):
    first = run_at(server, "deleted", 1)
    client.delete_run(first.run_id)
    second = run_at(server, "deleted", 1, 2, remembered=first.run_id)
    assert second.run_id != first.run_id
    assert [step for step, _ in points(client, client.get_run(second.run_id))] == [1, 2]
    assert said(f"the run of this training, {first.run_id}, no longer exists at {server.uri}")


def test_a_given_run_is_taken_unless_it_holds_another_training(server, client, said):
    mine = client.create_run("0", run_name="mine").info.run_id
    assert run_at(server, "given", 1, given=mine).run_id == mine
    assert client.get_run(mine).info.run_name == "mine"
    assert run_at(server, "another", 1, given=mine).run_id != mine
    assert said(f"the run {mine} belongs to another training")
    assert run_at(server, "third", 1, given="f" * 32).run_id != mine
    assert said("does not exist at")


def test_the_users_active_run_is_not_ended(server, client):
    mine = client.create_run("0").info.run_id
    run = run_at(server, "active", 1, given=mine, active=mine)
    run.conclude({"epochs": 1}, "FINISHED")
    assert client.get_run(mine).info.status == "RUNNING"


def test_more_numbers_than_mlflow_takes_at_once(server, client):
    numbers = [f"recall/{number}" for number in range(1200)]
    run = run_at(server, "many", 1, 2, numbers=numbers)
    data = client.get_run(run.run_id).data
    assert {f"recall/{number}" for number in range(1200)} < set(data.metrics)
    assert [step for step, _ in points(client, client.get_run(run.run_id), "recall/1199")] == [1, 2]


def test_what_mlflow_does_not_take_is_cut_or_left_out(server, client, said):
    run = run_at(server, "long", params={"a" * 300: 1, "list": "y" * 900, "fine": None})
    params = client.get_run(run.run_id).data.params
    assert params["fine"] == "None"
    assert len(params["list"]) == 500
    assert params["list"].endswith("... (900 characters, all in run.json)")


def test_a_deleted_experiment_is_told(server, client):
    client.delete_experiment(client.create_experiment("gone"))
    run = MLflowRun(MLflowServer(server.uri), Intent("gone", experiment="gone"), [], print)
    with pytest.raises(NotDelivered, match="'gone' is deleted"):
        run.update()


SMALL = """
import sys
missing = {"sqlalchemy", "alembic", "flask", "flask_cors", "sklearn", "pyarrow", "docker", "graphene", "gunicorn",
           "huey", "skops", "aiohttp"}
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name in missing else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Without, sys.meta_path)
from pathlib import Path
from tests.e2e.test_mlflow import Intent, MLflowRun, MLflowServer, entries
server, file = sys.argv[1:]
run = MLflowRun(MLflowServer(server), Intent("small", experiment="small", params={"a": 1}), entries(1, 2), print)
run.update()
run.upload(lambda: {"logs/file.txt": Path(file)})
run.conclude({"epochs": 2}, "FINISHED")
try:
    MLflowRun(MLflowServer("sqlite:///x.db"), Intent("small", experiment="small"), [], print).update()
except Exception as error:
    print("SAID", error)
"""


def test_the_small_package_is_enough_for_a_server(server, client, tmp_path):
    (tmp_path / "file.txt").write_text("text")
    words = [sys.executable, "-c", SMALL, server.uri, str(tmp_path / "file.txt")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    run = the_run(client, "small")
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(client, run)] == [1, 2]
    assert list(files_at(client, run)) == ["logs/file.txt"]
    assert "SAID a local store needs the full mlflow package: pip install mlflow" in done.stdout
