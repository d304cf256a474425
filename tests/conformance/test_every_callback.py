"""What holds for every public callback. A new one is walked over by itself: give it a line in `EXAMPLES`."""

import inspect
import json
import re

import cloudpickle
import numpy as np
import pytest
import yaml

from tests.helpers import NAN, record
from yolo_callbacks import Decision, History, Plan, Priority, Stop
from yolo_callbacks.callback import Callback
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.config import load_config
from yolo_callbacks.core.events import EVENTS, check_events
from yolo_callbacks.core.lineup import configuration

EXAMPLES = {
    "EarlyStopping": {"patience": 3, "restore_best_weights": True},
    "ReduceLROnPlateau": {"patience": 2, "factor": 0.5, "cooldown": 1},
    "LearningRateScheduler": {"schedule": lambda epoch, lr: lr * 0.9},
    "ModelCheckpoint": {"filepath": "{epoch}", "save_top_k": 2, "every_n_epochs": 3, "save_last": True},
    "CSVLogger": {"filename": "x.csv", "separator": ";"},
    "PlotLogger": {"refresh_seconds": 5},
    "PlatformLogger": {"metrics": {"waited": "EarlyStopping/wait", "F1": "recall"}, "prefix": "mine/"},
    "BackupAndRestore": {"every_n_epochs": 2, "exact": False},
    "PerClassMetrics": {"classes": ["person", "*_sign"], "metrics": ["mAP50-95"], "heatmap": None},
    "FreezeBackbone": {"until_epoch": 3, "layers": [0, "*.bn"], "lr_factor": 0.1, "lr_ramp_epochs": 2},
    "PreemptionHandler": {"signals": "SIGTERM"},
    "TensorBoard": {"log_dir": "./logs", "histogram_freq": 1, "update_freq": 10, "predictions_freq": 2},
    "MLflow": {"experiment_name": "trial", "tags": {"site": "north"}, "log_artifacts": ["logs", "plots"]},
    "GradientMonitor": {"every_n_steps": 5, "groups": {"stem": "model.0.*"}, "exploding_factor": 50.0},
    "ActivationMonitor": {"layers": ["model.4", -2], "every_n_batches": 5, "zero_below": 0.01},
    "SystemMonitor": {"verbose": 0},
    "ExportCheck": {"export": ["torchscript"], "export_args": {"dynamic": True}, "on_failure": "warn", "timeout": 60},
    "ExtraValidation": {"data": "night.yaml", "split": "val", "every": 3, "prefix": "night"},
    "ValidationSchedule": {"every": 3, "always_last": 4, "start_epoch": 2, "on_improvement": 1, "budget": 0.5},
    "RemoteMonitor": {"url": "https://me:pw@127.0.0.1:1/?a=b", "headers": {"X-Own": "v"}, "metrics": ["fitness"]},
    "Notify": {"urls": ["json://127.0.0.1:1/a", "form://127.0.0.1:1"], "events": ["stop"], "monitor": "val_loss"},
    "Watchdog": {"stall_after": 90, "slow_seconds": 600, "heartbeat_seconds": 2.5, "exit_code": 75},
}
VALUES = [0.0, 0.1, 0.3, None, 0.2, NAN, 0.3, 0.25, 0.31, 0.3, 0.3, None, 0.3, 0.3, 0.3]
PLAN = Plan(planned_epochs=30, base_lr=0.01, final_lr=0.0001, trainer_patience=5)


def with_own(method):
    """Run a test for the callbacks that have this method themselves: for the others it could not fail."""
    names = [n for n, cls in public_callbacks().items() if getattr(cls, method) is not getattr(Callback, method)]
    return pytest.mark.parametrize("name", names)


every = pytest.mark.parametrize("name", public_callbacks())


def make(name):
    return public_callbacks()[name](**EXAMPLES[name])


def records():
    return [
        record(i, v, planned=30, base_lr=0.01, next_base_lr=0.009, measures={"seconds": 1.0})
        for i, v in enumerate(VALUES, 1)
    ]


def answers(callback, history):
    decided = callback.decide(history) or ()
    return (decided,) if isinstance(decided, Decision) else tuple(decided)


def live(callback):
    """Return the decisions of a run whose epochs come one by one."""
    history = History(PLAN)
    decided = [answers(callback, history)]
    for item in records():
        history.append(item)
        decided.append(answers(callback, history))
    return decided


def test_every_public_callback_has_an_example():
    assert set(EXAMPLES) == set(public_callbacks())


@every
def test_no_callback_has_an_event_that_does_not_exist(name):
    check_events(make(name))


@with_own("decide")
def test_replay_equals_live(name):
    """A history that is there from the start gives the same decisions as one that grew, also in another process."""
    expected = live(make(name))
    assert any(expected)
    copy = cloudpickle.loads(cloudpickle.dumps(make(name)))
    for length in range(len(VALUES) + 1):
        assert repr(answers(copy, History(PLAN, records()[:length]))) == repr(expected[length])


@with_own("decide")
def test_deciding_changes_nothing(name):
    """One object serves several runs, and asking twice gives the same answer."""
    callback = make(name)
    assert repr(live(callback)) == repr(live(callback)) == repr(live(make(name)))
    history = History(PLAN, records())
    assert repr(answers(callback, history)) == repr(answers(callback, history))


@with_own("counters")
def test_counters_are_numbers_and_pure(name):
    history = History(PLAN, records())
    callback = make(name)
    assert callback.counters(history)
    assert callback.counters(history) == make(name).counters(history)
    assert all(isinstance(value, (int, float)) for value in callback.counters(history).values())


@with_own("decide")
def test_decisions_say_when_and_why(name):
    for length, decided in enumerate(live(make(name))):
        for decision in decided:
            assert decision.epoch == length
            assert decision.message
            assert "\n" not in decision.message


@every
def test_what_is_impossible_is_said_in_sentences(name):
    for plan in (Plan(), PLAN, Plan(planned_epochs=1), Plan(planned_epochs=12, close_mosaic=10, warmup_epochs=3.0)):
        said = list(make(name).impossible(plan))
        assert all(isinstance(sentence, str) and sentence and "\n" not in sentence for sentence in said)
        assert not said or plan.planned_epochs in (1, 12)


@every
def test_only_controllers_decide(name):
    decided = [d for answer in live(make(name)) for d in answer]
    assert (Priority.MEASURE < make(name).priority < Priority.REPORT) == bool(decided)
    assert make(name).critical == bool(decided)
    if any(isinstance(d, Stop) for d in decided):
        assert make(name).priority is Priority.DECIDE


@every
def test_it_can_be_pickled_and_is_built_again_from_its_configuration(name):
    callback = make(name)
    copy = cloudpickle.loads(cloudpickle.dumps(callback))
    config = copy.get_config()
    assert set(config) == set(inspect.signature(type(callback)).parameters)
    again = type(callback)(**config)
    assert {k: v for k, v in again.get_config().items() if not callable(v)} == {
        k: v for k, v in callback.get_config().items() if not callable(v)
    }
    assert repr(callback).startswith(f"{name}(")


@every
def test_the_docstring_tells_every_parameter_its_default_and_an_example(name):
    cls = public_callbacks()[name]
    doc = inspect.getdoc(cls)
    for parameter in inspect.signature(cls).parameters.values():
        found = re.search(rf"^    {parameter.name}: (.*?)(?=^    \w+: |^\S|\Z)", doc, re.DOTALL | re.MULTILINE)
        assert found, parameter.name
        if parameter.default is not parameter.empty:
            assert f"Defaults to {_spelt(parameter.default)}" in " ".join(found.group(1).split()), parameter
    assert "Raises:" in doc
    assert "Example:" in doc


def _spelt(default):
    if isinstance(default, str):
        return f'`"{default}"`'
    return (
        {1e-4: "1e-4", 30.0: "30", 0.0: "0"}.get(default, str(default)) if isinstance(default, float) else str(default)
    )


def in_numpy(value):
    """Return an argument with every number in it as one of numpy."""
    if isinstance(value, (list, tuple)):
        return [in_numpy(item) for item in value]
    return np.array(value)[()] if isinstance(value, (bool, int)) else np.array(value) if type(value) is float else value


@every
def test_numbers_of_numpy_are_numbers(name):
    """They are kept in run.json as the same numbers of Python's."""
    cls, given = public_callbacks()[name], EXAMPLES[name]
    defaults = {key: p.default for key, p in inspect.signature(cls).parameters.items() if p.default is not p.empty}
    given = {**{key: value for key, value in defaults.items() if isinstance(value, (bool, int, float))}, **given}
    expected, found = (
        json.dumps(configuration({"it": cls(**arguments)}))
        for arguments in (given, {key: in_numpy(value) for key, value in given.items()})
    )
    assert found == expected


@every
def test_an_unknown_argument_fails(name):
    with pytest.raises(TypeError, match="nonsense"):
        public_callbacks()[name](**EXAMPLES[name], nonsense=1)


@pytest.mark.parametrize("name", [n for n in EXAMPLES if not any(map(callable, EXAMPLES[n].values()))])
def test_it_can_be_listed_in_a_file(name, tmp_path):
    path = tmp_path / "callbacks.yaml"
    path.write_text(yaml.safe_dump([{name: EXAMPLES[name]}]))
    (built,) = load_config(path)
    assert built.get_config() == make(name).get_config()


def test_the_base_class_has_a_method_for_every_event():
    assert [name for name in vars(Callback) if name in EVENTS] == list(EVENTS)


def test_the_base_class_draws_every_event():
    for event in EVENTS:
        assert event in Callback.__doc__
