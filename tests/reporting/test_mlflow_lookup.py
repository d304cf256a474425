"""Which run at MLflow a training belongs to, on a server that is made up; tests/e2e/test_mlflow.py has a real one."""

import os
from types import SimpleNamespace

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from yolo_callbacks.reporting.mlflow_lookup import ID_TAG, Intent, find_or_create, shortened, tag_text
from yolo_callbacks.reporting.outbox import NotDelivered

SERVER = SimpleNamespace(shown="http://host")


def run(run_id, training=None, stage="active"):
    tags = {} if training is None else {ID_TAG: training}
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id, lifecycle_stage=stage), data=SimpleNamespace(tags=tags))


def experiment(name, stage):
    return SimpleNamespace(experiment_id=name, lifecycle_stage=stage)


class Client:
    """A server with runs and experiments."""

    def __init__(self, *runs, experiments=(), taken=False):
        self.runs = {item.info.run_id: item for item in runs}
        self.experiments = {
            name: SimpleNamespace(experiment_id=name, lifecycle_stage=stage) for name, stage in experiments
        }
        self.taken, self.created = taken, []

    def get_run(self, run_id):
        if run_id not in self.runs:
            raise MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST)
        return self.runs[run_id]

    def search_runs(self, experiments, wanted, max_results):
        there = (item for item in self.runs.values() if item.info.lifecycle_stage == "active")
        return [item for item in there if f"'{item.data.tags.get(ID_TAG)}'" in wanted][:max_results]

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = experiment(name, "active")
        if self.taken:  # by another process, a moment before
            raise MlflowException("it exists")
        return name

    def create_run(self, experiment_id, tags, run_name):
        self.created.append((experiment_id, tags, run_name))
        return run("new", tags[ID_TAG])


def found(client, **intent):
    intent = {"experiment": "trial", "name": "train", **intent}
    return find_or_create(client, SERVER, Intent("mine", **intent)).info.run_id


@pytest.mark.parametrize(
    ("runs", "intent", "expected", "told"),
    [
        ([], {}, "new", None),
        ([run("a", "mine")], {}, "a", None),  # its id was lost with the process
        ([run("a", "other")], {}, "new", None),
        ([run("a", "mine"), run("b", "mine")], {"remembered": "b"}, "b", None),
        (
            [run("a", "mine")],
            {"remembered": "gone"},
            "a",
            "the run of this training, gone, no longer exists at http://host",
        ),
        ([run("a", "mine", "deleted")], {"remembered": "a"}, "new", "the run of this training, a, no longer exists at"),
        ([run("a")], {"given": "a"}, "a", None),
        ([run("a", "other")], {"given": "a"}, "new", "the run a belongs to another training; a new one is created"),
        ([], {"given": "gone"}, "new", "the run gone does not exist at http://host; a new one is created"),
        ([run("a"), run("b")], {"given": "a", "remembered": "b"}, "b", None),
    ],
)
def test_which_run_it_is(runs, intent, expected, told, said):
    assert found(Client(*runs), **intent) == expected
    assert len(said.warnings) == (told is not None)
    assert all(told in text for text in said.warnings)


def test_another_error_of_the_server_comes_out():
    client = Client()

    def fail(run_id):
        raise MlflowException("out of order")

    client.get_run = fail
    with pytest.raises(MlflowException, match="out of order"):
        found(client, remembered="a")


@pytest.mark.parametrize(
    ("client", "intent", "experiment"),
    [
        (Client(), {}, "trial"),
        (Client(experiments=[("trial", "active")]), {}, "trial"),
        (Client(taken=True), {}, "trial"),
        (Client(), {"experiment_id": "7"}, "7"),
    ],
)
def test_the_experiment_is_created_if_necessary(client, intent, experiment):
    assert found(client, **intent) == "new"
    assert client.created[0][0] == experiment


def test_a_deleted_experiment_is_told_and_not_tried_again():
    with pytest.raises(NotDelivered, match="'trial' is deleted: restore it, or choose another name") as caught:
        found(Client(experiments=[("trial", "deleted")]))
    assert not caught.value.again


def test_a_new_run_is_found_again_by_its_tag_and_has_its_parent():
    client = Client()
    found(client, parent="p", first_tags={"mlflow.source.name": "train.py"})
    _, tags, name = client.created[0]
    assert name == "train"
    assert (tags[ID_TAG], tags["mlflow.parentRunId"], tags["mlflow.source.name"]) == ("mine", "p", "train.py")
    found(client)
    assert "mlflow.parentRunId" not in client.created[1][1]


def test_what_is_too_long_is_cut_and_says_so():
    assert shortened("x" * 10, 10) == "x" * 10
    cut = shortened("y" * 900, 500)
    assert len(cut) == 500
    assert cut.endswith("... (900 characters, all in run.json)")
    assert len(tag_text("z" * 9000)) == 5000
    assert shortened(None, 500) == "None"
