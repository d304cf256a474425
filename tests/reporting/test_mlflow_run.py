"""What a run at MLflow is sent, once each, by a client that is made up; tests/e2e/test_mlflow.py has a real server."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE

from tests.helpers import record
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.reporting.mlflow_lookup import ID_TAG, Intent
from yolo_callbacks.reporting.mlflow_run import MLflowRun
from yolo_callbacks.reporting.mlflow_server import MLflowServer
from yolo_callbacks.reporting.outbox import NotDelivered


class Client:
    """A server with one run; `refuses` says which parameters it does not take, `fails` which requests fail."""

    tracking_uri = "/mlruns"

    def __init__(self, params=(), epochs=()):
        info = SimpleNamespace(run_id="a", experiment_id="1", lifecycle_stage="active")
        metrics = {"lr_factor": 1.0} if epochs else {}
        data = SimpleNamespace(tags={ID_TAG: "mine"}, params=dict(params), metrics=metrics)
        self.run, self.epochs = SimpleNamespace(info=info, data=data), epochs
        self.metrics, self.params, self.tags, self.statuses, self.uploaded = [], {}, {}, [], []
        self.refuses, self.fails, self.requests = (), set(), 0
        store = SimpleNamespace(update_run_info=lambda run_id, status, *_: self.statuses.append((run_id, status)))
        self._tracking_client = SimpleNamespace(store=store)

    def get_run(self, run_id):
        return self.run

    def update_run(self, run_id, status):
        self.statuses.append((run_id, status))

    def get_metric_history(self, run_id, key):
        return [SimpleNamespace(step=epoch) for epoch in self.epochs]

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        self.requests += 1
        if self.requests in self.fails:
            raise MlflowException("out of order", error_code=INTERNAL_ERROR)
        if any(item.key in self.refuses for item in params):
            raise MlflowException("too long", error_code=INVALID_PARAMETER_VALUE)
        assert len(metrics) <= 1000
        self.metrics.append([(item.key, item.value, item.timestamp, item.step) for item in metrics])
        self.params.update((item.key, item.value) for item in params)
        self.tags.update((item.key, item.value) for item in tags)

    def log_artifact(self, run_id, path, folder):
        self.requests += 1
        if self.requests in self.fails:
            raise OSError("no room")
        self.uploaded.append((folder, Path(path).name))

    @property
    def sent(self):
        """Each metric that was sent: (name, epoch)."""
        return [(key, step) for batch in self.metrics for key, _, _, step in batch]


def run_at(client, entries=(), remember=lambda run_id: None, **intent):
    server = MLflowServer("/mlruns")
    server._client = client
    return MLflowRun(server, Intent("mine", remembered="a", **intent), entries, remember)


def entry(epoch, **measures):
    return Entry(record(epoch, 0.5, measures=measures))


NAMES = ("train/box_loss", "fitness", "lr_factor")


# ------------------------------------------------------------------------------------------------- epochs


def test_each_epoch_is_sent_once_and_its_mark_last():
    client, entries, remembered = Client(), [entry(1, speed=2.0), entry(2)], []
    run = run_at(client, entries, remembered.append)
    run.update()
    assert client.sent == [(n, 1) for n in ("train/box_loss", "fitness", "speed", "lr_factor")] + [
        (n, 2) for n in NAMES
    ]
    assert (run.run_id, remembered, client.statuses) == ("a", ["a"], [("a", "RUNNING")])
    client.metrics.clear()
    entries.append(entry(3))
    assert run.missing == [3]
    run.update()
    run.update()
    assert client.sent == [(name, 3) for name in NAMES]
    assert (run.missing, client.statuses) == ([], [("a", "RUNNING")])


@settings(max_examples=30)
@given(st.sets(st.integers(1, 12)), st.integers(1, 4), st.sampled_from([1, 400, 1200]))
def test_whatever_fails_all_epochs_arrive_and_what_is_sent_twice_is_identical(fails, epochs, size):
    entries = [entry(number, **{f"m{i}": float(i) for i in range(size)}) for number in range(1, epochs + 1)]
    client = Client()
    client.fails = fails
    run = run_at(client, entries, params={"lr0": 0.1}, tags={"task": "detect"})
    for _ in range(len(fails) + 1):
        try:
            run.update()
        except NotDelivered as error:
            assert error.why == "/mlruns: out of order"
            assert run.missing or not client.sent
    assert run.missing == []
    points = [point for batch in client.metrics for point in batch]
    assert {(key, step) for key, _, _, step in points} == {(k, e.record.epoch) for e in entries for k in e.numbers}
    assert len(set(points)) == len({(key, step) for key, _, _, step in points})
    assert (client.params, client.tags["task"]) == ({"lr0": "0.1"}, "detect")


@pytest.mark.parametrize(
    ("size", "batches"), [(100, [412]), (400, [806, 806]), (997, [1000] * 4), (1500, [1000, 503] * 4)]
)
def test_no_more_numbers_at_once_than_mlflow_accepts_and_whole_epochs_if_possible(size, batches):
    client = Client()
    run_at(client, [entry(number, **{f"m{i}": 1.0 for i in range(size)}) for number in range(1, 5)]).update()
    assert [len(batch) for batch in client.metrics if batch] == batches


def test_after_a_failure_only_the_epochs_that_are_left_are_sent():
    client, entries = Client(), [entry(number, **{f"m{i}": 1.0 for i in range(600)}) for number in (1, 2, 3)]
    client.fails = {4}  # parameters and tags are two requests, and each epoch is one
    run = run_at(client, entries)
    with pytest.raises(NotDelivered):
        run.update()
    assert run.missing == [2, 3]
    run.update()
    assert [epoch for name, epoch in client.sent if name == "lr_factor"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("there", "done", "sent", "told"),
    [
        ((), 2, [1, 2], None),
        ((1,), 2, [2], None),  # the process died before the second one was sent
        ((1, 2), 2, [], None),
        ((1, 2, 3), 2, [], "MLflow: epoch 3 runs again; the new values count"),
        ((1, 2, 3, 4, 5), 2, [], "MLflow: epochs 3 to 5 run again; the new values count"),
    ],
)
def test_a_resumed_run_sends_what_the_server_lacks(there, done, sent, told, said):
    client, entries = Client(epochs=there), [entry(number) for number in range(1, done + 1)]
    run = run_at(client, entries)
    run.update()
    assert [epoch for name, epoch in client.sent if name == "lr_factor"] == sent
    assert [text for _, text in said.lines if "again" in text] == ([told] if told else [])
    entries.append(entry(done + 1))  # it may have one of that number, of before
    run.update()
    assert client.sent[-1] == ("lr_factor", done + 1)


def test_times_go_on_from_those_of_the_earlier_part():
    client = Client()
    run_at(client, [entry(1), entry(2), entry(3)]).update()
    first, second, third = (at for batch in client.metrics for key, _, at, _ in batch if key == "lr_factor")
    assert second - first == pytest.approx(10_000, abs=1)
    assert third - second == pytest.approx(10_000, abs=1)


def test_names_that_mlflow_would_not_tell_apart_are_told_apart():
    client, entries = Client(), [entry(1, **{"a?": 1.0, "a!": 2.0}), entry(2, **{"a!": 2.0, "a?": 1.0})]
    run_at(client, entries).update()
    named = {(value, key) for batch in client.metrics for key, value, _, _ in batch if key.startswith("a")}
    assert len(named) == 2
    assert len({key for _, key in named}) == 2


# ------------------------------------------------------------------------------------------------- parameters


def test_a_parameter_that_is_refused_costs_only_itself(said):
    client = Client()
    client.refuses = ("bad",)
    run_at(client, params={"lr0": 0.1, "bad": 1, "lrf": 0.2}).update()
    assert client.params == {"lr0": "0.1", "lrf": "0.2"}
    assert said.warnings == ["MLflow does not accept the parameter bad: too long"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"lr0": "0.2"}, True), ({"model": "last.pt", "resume": "True"}, False), ({}, False)],
)
def test_a_parameter_that_has_changed_is_a_tag(changed, told, said):
    before = {"lr0": "0.1", "model": "yolo.pt", "resume": "False"}
    client = Client(params=before)
    run_at(client, params={**before, **changed, "new": 1}).update()
    assert client.params == {"new": "1"}  # MLflow keeps the first value
    assert client.tags == {ID_TAG: "mine", **{f"resumed.{key}": value for key, value in changed.items()}}
    lines = [text for _, text in said.lines if "changed since this run began" in text]
    assert [text.partition(" changed")[0] for text in lines] == (["MLflow: lr0"] if told else [])


# ------------------------------------------------------------------------------------------------- the end


def test_the_last_epochs_are_sent_before_the_end():
    client = Client()
    run = run_at(client, [entry(1)])
    run.conclude({"stopped": "no improvement"}, "FINISHED")
    assert [epoch for name, epoch in client.sent if name == "lr_factor"] == [1]
    assert client.tags["stopped"] == "no improvement"
    assert client.statuses[0] == ("a", "RUNNING")
    assert len(client.statuses) == 2


def test_a_run_that_is_not_over_has_no_other_status():
    client = Client()
    run_at(client).conclude({}, None)
    assert client.statuses == [("a", "RUNNING")]


def test_neither_a_run_that_is_the_users_nor_one_that_never_began_is_ended():
    client = Client()
    run = run_at(client, active="a")
    run.end("FAILED")
    run.update()
    run.end("FAILED")
    assert client.statuses == []


# ------------------------------------------------------------------------------------------------- files


@pytest.fixture
def files(tmp_path):
    found = {}
    for place in ("weights/best.pt", "results.csv", "callbacks/run.json"):
        path = found[place] = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    return found


def test_each_file_is_uploaded_to_its_folder_once(files):
    client = Client()
    run_at(client).upload(lambda: files)
    assert client.uploaded == [("weights", "best.pt"), (None, "results.csv"), ("callbacks", "run.json")]


def test_a_file_that_changes_meanwhile_is_uploaded_again(files):
    client, upload = Client(), Client.log_artifact

    def log_artifact(run_id, path, folder):
        upload(client, run_id, path, folder)
        if len(client.uploaded) == 1:
            files["weights/best.pt"].write_text("more")

    client.log_artifact = log_artifact
    run_at(client).upload(lambda: files)
    assert [name for _, name in client.uploaded] == ["best.pt", "results.csv", "run.json", "best.pt"]


@pytest.mark.parametrize(
    ("fails", "uploaded", "told"),
    [
        (1, 0, "weights/best.pt and 2 more"),
        (2, 1, "results.csv and 1 more"),
        (3, 2, "callbacks/run.json"),
    ],
)
def test_an_upload_that_fails_is_told_with_what_is_missing(fails, uploaded, told, files, said):
    client = Client()
    client.fails = {fails}
    run_at(client).upload(lambda: files)
    assert len(client.uploaded) == uploaded
    assert said.warnings == [f"MLflow: {told} could not be uploaded: /mlruns: no room"]


def test_giving_up_ends_the_upload_with_the_file_that_has_begun(files):
    client = Client()
    run, upload = run_at(client), client.log_artifact
    assert run.give_up() == ""
    run = run_at(client)
    given_up = []

    def log_artifact(*arguments):
        upload(*arguments)
        given_up.append(run.give_up())

    client.log_artifact = log_artifact
    run.upload(lambda: files)
    assert given_up == ["weights/best.pt"]
    assert len(client.uploaded) == 1
