"""What MLflow wants to track, and what it says at the end; tests/e2e/test_mlflow.py has a real server."""

import importlib.util
import os
import pickle
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks import EarlyStopping, MLflow, Stop, StopReason
from yolo_callbacks.callbacks import mlflow as module
from yolo_callbacks.reporting.outbox import NotDelivered

PASSWORD, TOKEN = "pw-0f3c9ad2b1", "tok-77e1c0ffee5"


class RunStub:
    """Notes what is asked of the run at MLflow; on a server that is away nothing succeeds."""

    away = False

    def __init__(self, server, intent, entries, remember):
        self.server, self.intent, self.entries, self.remember = server, intent, entries, remember
        self.run_id, self.asked = None if self.away else "the-run", []

    @property
    def missing(self):
        return [entry.record.epoch for entry in self.entries] if self.away else []

    def _ask(self, *what):
        if self.away:
            self.server.failed = True
            raise NotDelivered("http://host does not answer")
        self.asked.append(what)

    def update(self):
        self._ask("update")

    def conclude(self, tags, status):
        self._ask("conclude", tags, status)

    def upload(self, files):
        self._ask("upload", sorted(files()))

    def end(self, status):
        self._ask("end", status)

    def give_up(self):
        return ""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """No run at MLflow, nobody who has imported it, and none of the variables that it understands."""
    monkeypatch.setattr(module, "MLflowRun", RunStub)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)


def begun(tracker, *others, **arguments):
    session = SessionStub(*others, tracker, **arguments)
    session.begin()
    return session


def intent_of(tracker, *others, **arguments):
    begun(tracker, *others, **arguments)
    return tracker._run.intent


def active_run(monkeypatch, uri="http://host"):
    """Let the user's process have a run that is active."""
    info = SimpleNamespace(run_id="mine", experiment_id="7")
    theirs = ModuleType("mlflow")
    theirs.__spec__ = ModuleSpec("mlflow", None)
    theirs.active_run = lambda: SimpleNamespace(info=info)
    theirs.is_tracking_uri_set, theirs.get_tracking_uri = lambda: True, lambda: uri
    monkeypatch.setitem(sys.modules, "mlflow", theirs)


def test_parameters_are_the_trainers_arguments_and_those_of_the_callbacks():
    params = intent_of(MLflow("trial"), EarlyStopping(patience=50)).params
    assert (params["imgsz"], params["EarlyStopping.patience"]) == (640, 50)
    assert not [name for name in params if name.startswith("MLflow") or name.endswith(".class")]


def test_tags_say_what_was_trained_where_and_with_what(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", TOKEN)
    tracker = MLflow(tags={"site": "north", "api_key": TOKEN, "note": f"uses {TOKEN}"})
    session = begun(tracker)
    tags = tracker._run.intent.tags
    assert (tags["task"], tags["device"], tags["save_dir"]) == ("detect", "cpu", str(session.run.save_dir))
    assert {"version.yolo_callbacks", "version.ultralytics"} <= set(tags)
    assert (tags["site"], tags["api_key"], tags["note"]) == ("north", "***", "uses ***")
    assert "resumed_after" not in tags
    assert intent_of(MLflow(), resumed=True).tags["resumed_after"] == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ({}, {}, ("", "/Shared/Ultralytics", None)),
        ({}, {"MLFLOW_EXPERIMENT_NAME": "theirs", "MLFLOW_EXPERIMENT_ID": "3"}, ("", "theirs", None)),
        ({}, {"MLFLOW_EXPERIMENT_ID": "3"}, ("", "", "3")),
        ({"experiment_name": "mine"}, {"MLFLOW_EXPERIMENT_ID": "3"}, ("", "mine", None)),
        ({"experiment_name": "mine"}, {"MLFLOW_EXPERIMENT_NAME": "theirs"}, ("", "mine", None)),
        ({"run_id": "r1"}, {"MLFLOW_RUN_ID": "r2"}, ("r1", "/Shared/Ultralytics", None)),
        ({}, {"MLFLOW_RUN_ID": "r2"}, ("r2", "/Shared/Ultralytics", None)),
    ],
)
def test_what_is_not_given_is_taken_from_the_environment(arguments, environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    intent = intent_of(MLflow(**arguments))
    assert (intent.given or "", intent.experiment, intent.experiment_id) == expected


@pytest.mark.parametrize(
    ("given", "variable", "name"), [(None, None, "train"), (None, "theirs", "theirs"), ("mine", "theirs", "mine")]
)
def test_the_name_of_the_run(given, variable, name, monkeypatch):
    if variable:
        monkeypatch.setenv("MLFLOW_RUN", variable)
    assert intent_of(MLflow(run_name=given)).name == name


@pytest.mark.parametrize(
    ("arguments", "parent", "active", "experiment_id"),
    [
        ({}, "mine", "mine", "7"),
        ({"experiment_name": "other"}, "mine", "mine", None),
        ({"nested": False}, None, "mine", None),
        ({"tracking_uri": "http://host"}, "mine", "mine", "7"),
        ({"tracking_uri": "http://elsewhere"}, None, None, None),  # of another server, for all we know
    ],
)
def test_a_run_that_is_active_becomes_the_parent(arguments, parent, active, experiment_id, monkeypatch):
    active_run(monkeypatch)
    intent = intent_of(MLflow(**arguments))
    assert (intent.parent, intent.active, intent.experiment_id) == (parent, active, experiment_id)


def test_a_process_that_was_launched_nests_under_the_run_of_the_one_that_launched_it(monkeypatch):
    active_run(monkeypatch)
    sent = pickle.dumps(MLflow())
    monkeypatch.delitem(sys.modules, "mlflow")
    assert intent_of(pickle.loads(sent)).parent is None  # a copy in a process of its own
    monkeypatch.setattr(module, "is_worker", lambda: True)
    intent = intent_of(pickle.loads(sent))
    assert (intent.parent, intent.experiment_id) == ("mine", "7")
    assert intent.first_tags == {"mlflow.source.name": sys.argv[0]}


def test_the_run_is_found_again_by_what_was_remembered():
    tracker = MLflow()
    session = begun(tracker)
    assert tracker._run.intent.remembered is None
    tracker._run.remember("the-run")
    assert session.files.remembered("MLflow") == {"run_id": "the-run"}
    tracker.setup(session)
    assert tracker._run.intent.remembered == "the-run"
    assert tracker._run.intent.training == session.id
    assert tracker.current_run_id == "the-run"


def test_the_address_is_the_one_given_or_that_of_the_process(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    for given, expected in ((None, "http://environment"), ("http://mine", "http://mine")):
        tracker = MLflow(tracking_uri=given)
        begun(tracker)
        assert tracker._run.server.shown == expected


def ended(tracker, error=None, reason=None, epochs=2):
    session = begun(tracker)
    for _ in range(epochs):
        session.epoch(0.5)
    session.end(error, None if reason is None else Stop("it ended", epochs, reason=reason))
    return tracker._run.asked


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        (None, None, "FINISHED"),
        (None, StopReason.PLATEAU, "FINISHED"),
        (None, StopReason.INTERRUPTED, "FINISHED"),  # after the epoch, with everything saved
        (ValueError("a mistake"), None, "FAILED"),
        (KeyboardInterrupt(), None, "KILLED"),
        (SystemExit(143), StopReason.PREEMPTED, "KILLED"),
    ],
)
def test_the_status_says_how_it_ended(error, reason, status):
    asked = ended(MLflow(), error, reason)
    concluded = next(what for what in asked if what[0] == "conclude")
    if status == "KILLED":  # it is gone on with; the files are uploaded then
        assert concluded[2] == "KILLED"
        assert asked[-1] is concluded
    else:
        assert concluded[2] is None
        assert [what[0] for what in asked[-2:]] == ["upload", "end"]
        assert asked[-1][1] == status


def test_the_tags_say_how_it_ended():
    tags = next(what[1] for what in ended(MLflow(), reason=StopReason.PLATEAU) if what[0] == "conclude")
    assert tags == {"epochs": 2, "stop.reason": "plateau", "stop.message": "it ended", "stop.epoch": 2}
    error = RuntimeError(f"cannot read http://me:{PASSWORD}@host/data.zip")
    tags = next(what[1] for what in ended(MLflow(), error) if what[0] == "conclude")
    assert tags == {"epochs": 2, "error": "RuntimeError: cannot read http://***@host/data.zip"}
    tags = next(what[1] for what in ended(MLflow(), KeyboardInterrupt()) if what[0] == "conclude")
    assert tags["error"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("wanted", "uploaded"),
    [(True, ["a.png", "args.yaml"]), (["plots"], ["a.png"]), (["logs", "exports"], ["args.yaml"])],
)
def test_the_files_that_are_wanted_are_uploaded(wanted, uploaded, tmp_path):
    tracker = MLflow(log_artifacts=wanted)
    session = SessionStub(tracker, folder=tmp_path)
    (tmp_path / "args.yaml").touch()
    (tmp_path / "a.png").touch()
    session.begin()
    session.end()
    (files,) = (what[1] for what in tracker._run.asked if what[0] == "upload")
    assert set(uploaded) == {"a.png", "args.yaml"} & set(files)


@pytest.mark.parametrize("wanted", [False, []])
def test_without_files_the_status_is_set_at_once(wanted):
    asked = ended(MLflow(log_artifacts=wanted))
    assert asked[-1] == ("conclude", {"epochs": 2}, "FINISHED")


@pytest.mark.parametrize(("epochs", "missing"), [(3, "epochs 1 to 3"), (0, "how the training ended")])
def test_a_server_that_never_answers_is_told_once(epochs, missing, monkeypatch, said):
    monkeypatch.setattr(RunStub, "away", True)
    tracker = MLflow(tracking_uri=f"http://me:{PASSWORD}@host", timeout=0.2)
    session = begun(tracker)
    for _ in range(epochs):
        session.epoch(0.5)
    session.end()
    (warning,) = (text for text in said.warnings if "did not reach" in text)
    assert warning == f"MLflow: {missing} did not reach http://***@host; all of it is in {session.run.callbacks_dir}"
    assert tracker.current_run_id is None
    assert not said(PASSWORD)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"experiment_name": ""}, ValueError, "experiment_name='' must be a string that is not empty, or None"),
        ({"run_name": "  "}, ValueError, "run_name='  ' must be a string that is not empty"),
        ({"run_id": 7}, TypeError, "run_id=7 must be a string"),
        ({"tracking_uri": 5}, TypeError, "tracking_uri=5 must be a string"),
        ({"tags": ["a"]}, TypeError, "tags=['a'] must be a dict with names as keys, or None"),
        ({"tags": {1: "a"}}, TypeError, "tags={1: 'a'} must be a dict with names as keys"),
        ({"log_artifacts": "all"}, TypeError, "log_artifacts='all' must be True, False, or a list of 'logs', 'plots'"),
        ({"log_artifacts": ["plot"]}, ValueError, "log_artifacts='plot' is not one of 'logs', 'plots', "),
        ({"log_artifacts": ["plot"]}, ValueError, "did you mean 'plots'?"),
        ({"timeout": -1}, ValueError, "timeout=-1 must be a finite number >= 0"),
        ({"artifacts_timeout": "long"}, TypeError, "artifacts_timeout='long' must be a number >= 0"),
        ({"nested": 1}, TypeError, "nested=1 must be True or False"),
        (
            {"tracking_uri": "http://***@host"},
            ValueError,
            "tracking_uri is hidden in run.json: set ",
        ),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        MLflow(**arguments)
    assert message in str(caught.value)


def test_an_address_that_run_json_hides_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@host")
    tracker = MLflow(tracking_uri="http://***@host")
    assert tracker.tracking_uri is None
    begun(tracker)
    assert tracker._run.server._uri == f"http://me:{PASSWORD}@host"


def test_the_login_is_not_shown():
    tracker = MLflow(tracking_uri=f"https://me:{PASSWORD}@example.org", tags={"api_key": TOKEN})
    assert PASSWORD not in repr(tracker)
    assert TOKEN not in repr(tracker)
    assert pickle.loads(pickle.dumps(tracker)).tracking_uri == f"https://me:{PASSWORD}@example.org"


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"MLflow needs mlflow: pip install mlflow$"):
        MLflow()
