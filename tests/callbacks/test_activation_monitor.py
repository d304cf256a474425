"""ActivationMonitor over real batches of a small model; tests/e2e/test_gradient_monitor.py has it in real trainings."""

import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.callbacks.session_stub import SessionStub
from tests.trainer.model.step_trainer import StepTrainer, traces
from yolo_callbacks import ActivationMonitor
from yolo_callbacks.trainer.model.view import ModelView


class Run:
    """A monitor set up on a trainer; after each epoch it is asked what it has measured."""

    def __init__(self, monitor, model=None):
        self.trainer, self.monitor = StepTrainer(model=model), monitor
        self.session = SessionStub(monitor)
        self.session.run.model = ModelView(self.trainer)

    def begin(self):
        self.session.begin()
        return self

    def epoch(self, *sizes):
        """Train a batch of each size, and return what is measured."""
        number = self.session.history.epoch + 1
        self.session.run.trainer.epoch = number - 1
        self.session.run.model.begin_epoch()
        for size in sizes:
            self.trainer.batch(size)
        measured = dict(self.monitor.measure(self.session))
        self.session.epoch(0.5)
        return measured


def run(*layers, model=None, **arguments):
    arguments.setdefault("every_n_batches", 1)
    return Run(ActivationMonitor(list(layers), **arguments), model).begin()


def outputs_of(layer):
    outputs = []
    layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.detach().clone()))
    return outputs


def test_activations_are_those_of_the_sampled_batches():
    monitored = run("0", every_n_batches=2)
    outputs = outputs_of(monitored.trainer.model[0])
    measured = monitored.epoch(1.0, 200.0, 2.0, 300.0)
    values = torch.cat([outputs[0].flatten(), outputs[2].flatten()]).double()
    assert len(outputs) == 4
    assert measured["activations/0/mean"] == pytest.approx(float(values.mean()), rel=1e-4)
    assert measured["activations/0/std"] == pytest.approx(float(values.std(correction=0)), rel=1e-4)
    assert measured["activations/0/non_finite"] == 0


def test_every_epoch_begins_anew_with_its_first_batch():
    monitored = run("0", every_n_batches=3)
    outputs = outputs_of(monitored.trainer.model[0])
    monitored.epoch(1.0, 1.0)
    outputs.clear()
    assert monitored.epoch(5.0, 1.0)["activations/0/mean"] == pytest.approx(float(outputs[0].mean()), rel=1e-4)


def test_an_epoch_that_starts_again_counts_once():
    monitored = run("0")
    monitored.session.run.model.begin_epoch()
    monitored.trainer.batch(1000.0)
    outputs = outputs_of(monitored.trainer.model[0])
    assert monitored.epoch(1.0)["activations/0/mean"] == pytest.approx(float(outputs[0].mean()), rel=1e-4)


@pytest.mark.parametrize(("zero_below", "dead"), [(0.0, 4), (0.5, 7)])
def test_zeros_and_dead_channels(zero_below, dead):
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.constant_(model[0].weight, 0.0)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-1.0, -1.0, -1.0, -1.0, 0.1, 0.2, 0.3, 5.0]))
    measured = run("1", model=model, zero_below=zero_below).epoch(1.0)
    assert measured["activations/1/dead_channels"] == dead
    assert measured["activations/1/zero_share"] == dead / 8


class Several(nn.Module):
    """A layer with two outputs, as a head has."""

    def forward(self, x):
        return [x, 2 * x]


class WithSeveral(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.several = nn.Linear(3, 2), Several()

    def forward(self, x):
        return self.several(self.first(x))[1]


def test_a_layer_with_several_outputs_has_one_set_of_numbers_and_no_channels():
    measured = run("first", "several", model=WithSeveral()).epoch(1.0)
    assert "activations/first/dead_channels" in measured
    assert "activations/several/dead_channels" not in measured
    assert measured["activations/several/mean"] == pytest.approx(1.5 * measured["activations/first/mean"], rel=1e-4)


def test_the_columns_are_announced():
    monitored = run("0", "1")
    announced = list(monitored.monitor.measures(monitored.session))
    names = ("mean", "std", "zero_share", "dead_channels", "non_finite")
    assert announced == [f"activations/{layer}/{name}" for layer in "01" for name in names]
    assert set(monitored.epoch(1.0)) == set(announced)


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [("1", ["1"]), (["?"], ["0", "1", "2"]), (["2", "[01]", "0"], ["2", "0", "1"])],
)
def test_layers_by_name_and_pattern(layers, chosen):
    session = Run(ActivationMonitor(layers)).session
    (monitor,) = session.callbacks.values()
    names = [name.split("/")[1] for name in monitor.measures(session)]
    assert list(dict.fromkeys(names)) == chosen


def yolo():
    """Return a model with numbered layers that tells what its head takes its input from."""
    model = nn.Module()
    model.model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model.model[-1].f = [0, 1]
    return model


@pytest.mark.parametrize(("layers", "chosen"), [(None, ["model.0", "model.1"]), (-1, ["model.2"]), (0, ["model.0"])])
def test_layers_by_number_and_those_that_the_head_takes_its_input_from(layers, chosen):
    session = SessionStub(ActivationMonitor(layers))
    session.run.model = ModelView(SimpleNamespace(model=yolo()))
    (monitor,) = session.callbacks.values()
    names = [name.split("/")[1] for name in monitor.measures(session)]
    assert list(dict.fromkeys(names)) == chosen


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["model.1", "modle.2"], r"ActivationMonitor: 'modle\.2' is not a layer .*\(did you mean 'model\.[012]'\?\)"),
        (99, "ActivationMonitor: layer 99 is not a layer of this model, which has 3: 0 to 2"),
        ("*.bn", r"ActivationMonitor: '\*\.bn' is not a layer"),
    ],
)
def test_layers_that_are_not_there(layers, message):
    session = SessionStub(ActivationMonitor(layers))
    session.run.model = ModelView(SimpleNamespace(model=yolo()))
    with pytest.raises(ValueError, match=message):
        session.callbacks["ActivationMonitor"].measures(session)


def test_layers_with_nan_in_their_output_are_named_once(said):
    monitored = run("0", "1", "2")
    counted = [monitored.epoch(1.0, math.nan)["activations/1/non_finite"] for _ in range(2)]
    assert counted == [8, 16]  # after the first NaN the weights are NaN too
    assert said.warnings == ["ActivationMonitor: epoch 1: NaN or infinity in the output of 0, 1, 2"]


def test_of_many_such_layers_three_are_named(said):
    monitored = run("*", model=nn.Sequential(*(nn.Linear(3, 3) for _ in range(5))))
    monitored.epoch(math.inf)
    assert said.warnings == ["ActivationMonitor: epoch 1: NaN or infinity in the output of 0, 1, 2 and 2 more"]


def test_verbose_0_measures_and_says_nothing(said):
    assert run("0", verbose=0).epoch(math.nan)["activations/0/non_finite"] == 8
    assert not said.warnings


def test_a_compiled_model_is_not_measured_and_a_warning_says_so(said):
    monitored = Run(ActivationMonitor(["0"]))
    monitored.trainer.model = torch.compile(monitored.trainer.model, backend="eager")
    assert monitored.monitor.measures(monitored.session) == ()
    assert monitored.begin().epoch() == {}
    (warning,) = said.warnings
    assert warning.startswith("ActivationMonitor measures nothing: ")
    assert "compile=False" in warning


def test_an_error_is_told_once_and_ends_the_measurement(said, monkeypatch):
    def fail(*_):
        raise RuntimeError("a device of another kind")

    monkeypatch.setattr("yolo_callbacks.trainer.model.output_numbers._tensors", fail)
    monitored = run("0")
    assert monitored.epoch(1.0) == monitored.epoch(1.0) == {}
    (told,) = said.warnings
    assert told == "ActivationMonitor failed; training continues: RuntimeError: a device of another kind"
    assert traces(monitored.trainer) == []


def test_nothing_is_left_at_the_end_and_a_second_run_begins_anew(said):
    monitor = ActivationMonitor(["0"], every_n_batches=1)
    for _ in range(2):
        monitored = Run(monitor).begin()
        monitored.epoch(math.nan)
        monitored.session.end()
        assert traces(monitored.trainer) == []
        assert monitor.measure(monitored.session) == {}
    assert len(said.warnings) == 2  # each run is told of its own


def test_it_is_pickled_without_the_run():
    monitored = run("0", zero_below=0.5)
    copy = pickle.loads(pickle.dumps(monitored.monitor))
    assert copy.get_config() == monitored.monitor.get_config()
    assert copy.measure(monitored.session) == {}
    assert monitored.epoch(1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": []}, TypeError, r"layers=\[\] must be a name, a pattern, a number, a list of them, or None"),
        ({"layers": ""}, TypeError, "layers='' has ''"),
        ({"layers": [True]}, TypeError, r"layers=\[True\] has True: expected a name, a pattern or a number"),
        ({"layers": 2.5}, TypeError, "layers=2.5 must be a name"),
        ({"layers": ["model.4", None]}, TypeError, r"layers=\['model.4', None\] has None"),
        ({"every_n_batches": 0}, ValueError, "every_n_batches=0 must be >= 1"),
        ({"every_n_batches": 1.5}, TypeError, "every_n_batches=1.5 must be a whole number >= 1, not float"),
        ({"zero_below": -1}, ValueError, "zero_below=-1 must be a finite number >= 0"),
        ({"zero_below": "0"}, TypeError, "zero_below='0' must be a number >= 0, not str"),
        ({"verbose": -1}, ValueError, "verbose=-1 must be >= 0"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        ActivationMonitor(**arguments)


@pytest.mark.parametrize("layers", [None, "model.4", -2, ["model.4", -2], ("model.2.m.*",)])
def test_what_it_was_built_with_is_kept(layers):
    given = {"layers": layers, "every_n_batches": 3, "zero_below": 0.5, "verbose": 0}
    assert ActivationMonitor(**given).get_config() == given
