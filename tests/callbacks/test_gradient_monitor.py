"""GradientMonitor over real steps of a small model; tests/e2e/test_gradient_monitor.py has it in real trainings."""

import math
import pickle
import statistics

import pytest
import torch
from torch import nn

from tests.callbacks.session_stub import SessionStub
from tests.trainer.model.step_trainer import SCALE, StepTrainer, record_clipping, traces
from yolo_callbacks import GradientMonitor
from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.support.secrets import without_secrets
from yolo_callbacks.trainer.model.view import ModelView


@pytest.fixture
def clipping(monkeypatch):
    """What PyTorch's own clipping says of each step."""
    return record_clipping(monkeypatch)


class Run:
    """A monitor set up on a trainer; after each epoch it is asked what it has measured."""

    def __init__(self, monitor, **trainer):
        self.trainer, self.monitor = StepTrainer(**trainer), monitor
        self.session = SessionStub(monitor)
        self.session.run.model = ModelView(self.trainer)

    def begin(self):
        self.session.begin()
        return self

    def epoch(self, *sizes, before=lambda: None):
        """Train a batch of each size, and return what is measured."""
        number = self.session.history.epoch + 1
        self.session.run.trainer.epoch = number - 1
        self.session.run.model.begin_epoch()
        before()
        for size in sizes:
            self.trainer.batch(size)
        measured = dict(self.monitor.measure(self.session))
        self.session.epoch(0.5)
        return measured


def run(monitor=None, **trainer):
    return Run(monitor or GradientMonitor(every_n_steps=1), **trainer).begin()


def deaden(*layers):
    """Let no gradient through to these layers, until what is returned is removed."""
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    return [parameter.register_hook(torch.zeros_like) for parameter in parameters]


# ---------------------------------------------------------------------------------------------- what is measured


def test_norms_are_those_that_clipping_finds(clipping):
    measured = run().epoch(0.1, 1.0, 30.0, 1000.0)
    assert min(clipping) < 10 < max(clipping)
    assert measured["gradients/norm"] == pytest.approx(statistics.mean(clipping), rel=1e-5)
    assert measured["gradients/norm_max"] == pytest.approx(max(clipping), rel=1e-5)
    assert measured["gradients/clipped"] == sum(norm > 10 for norm in clipping) / 4
    one = run().epoch(0.1)
    assert math.hypot(one["gradients/0"], one["gradients/2"]) == pytest.approx(clipping[4], rel=1e-5)
    assert one["gradients/clipped"] == 0


def test_a_step_of_several_batches_is_one_step(clipping):
    monitored = run()

    def gather():
        for _ in range(3):
            monitored.trainer.batch(0.3, step=False)

    measured = monitored.epoch(0.4, before=gather)
    (norm,) = clipping
    assert (measured["gradients/norm"], measured["gradients/norm_max"]) == pytest.approx((norm, norm), rel=1e-5)


def test_an_epoch_that_starts_again_counts_once(clipping):
    monitored = run()
    monitored.session.run.model.begin_epoch()
    monitored.trainer.batch(1000.0)
    assert monitored.epoch(1.0)["gradients/norm"] == pytest.approx(clipping[-1], rel=1e-5)


def test_only_sampled_steps_are_looked_at(clipping):
    monitored = run(GradientMonitor(every_n_steps=3))
    for _ in range(2):
        clipping.clear()
        measured = monitored.epoch(0.1, 50.0, 0.2, 0.3)
        assert measured["gradients/norm"] == pytest.approx(statistics.mean(clipping[::3]), rel=1e-5)


def test_what_is_skipped_is_counted_of_all_steps_and_the_scale_is_taken_out(clipping):
    monitored = run(GradientMonitor(every_n_steps=2), amp=True)
    measured = monitored.epoch(1.0, math.inf, 0.5, math.nan)
    assert monitored.trainer.scaler.get_scale() == SCALE / 4
    assert measured["gradients/skipped"] == 2
    assert measured["gradients/norm"] == pytest.approx(statistics.mean(clipping[::2]), rel=1e-5)
    assert measured["gradients/exploding_layers"] == 0
    assert monitored.epoch(1.0)["gradients/skipped"] == 0


def test_an_epoch_whose_sampled_steps_were_all_skipped_has_no_norms():
    assert run(GradientMonitor(), amp=True).epoch(math.inf) == {"gradients/skipped": 1}
    assert run().epoch() == {}


@pytest.mark.parametrize("amp", [False, True])
def test_the_columns_are_announced_as_they_are_measured(amp):
    monitored = run(amp=amp)
    announced = tuple(monitored.monitor.measures(monitored.session))
    skipped = ("skipped",) if amp else ()
    names = ("norm", "norm_max", "clipped", *skipped, "0", "2", "dead_layers", "exploding_layers")
    assert announced == tuple(f"gradients/{name}" for name in names)
    assert set(monitored.epoch(1.0)) == set(announced)


def groups_of(groups, model=None):
    monitored = Run(GradientMonitor(every_n_steps=1, groups=groups), model=model)
    names = monitored.monitor.measures(monitored.session)
    return [name.removeprefix("gradients/") for name in names][3:-2]


class Named(nn.Module):
    """A model whose modules have names, one of which is a column's."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Linear(3, 3)
        self.blocks = nn.ModuleDict({"deep": nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])})

    def forward(self, x):
        return self.norm(x)


def test_groups_by_part_by_layer_and_by_pattern():
    assert groups_of("parts") == ["0", "2"]
    assert groups_of(None) == []
    assert groups_of({"biases": "*.bias", "first": ["0.weight", "0.bias"]}) == ["biases", "first"]
    assert groups_of("layers", Named()) == ["norm (module)", "blocks.deep.0", "blocks.deep.1"]
    assert groups_of("parts", Named()) == ["norm (module)", "blocks"]


def test_a_group_has_the_norm_of_its_parameters():
    monitored = run(GradientMonitor(every_n_steps=1, groups={"0": "0.*", "all": "*", "list": ["0.weight", "0.b*"]}))
    measured = monitored.epoch(1.0)
    assert measured["gradients/0"] == measured["gradients/list"] == run().epoch(1.0)["gradients/0"]
    assert measured["gradients/all"] == pytest.approx(measured["gradients/norm"])
    assert 0 < measured["gradients/0"] < measured["gradients/all"]


def test_a_pattern_that_matches_nothing():
    message = r"GradientMonitor: '0\.wieght' matches no trained parameter \(did you mean '0\.weight'\?\); these are 0\."
    with pytest.raises(ValueError, match=message):
        groups_of({"stem": ["0.*", "0.wieght"]})


def test_frozen_layers_have_no_group_and_are_not_dead(clipping):
    monitored = Run(GradientMonitor(every_n_steps=1))
    monitored.trainer.model[0].requires_grad_(False)
    measured = monitored.begin().epoch(1.0)
    assert "gradients/0" not in measured
    assert measured["gradients/dead_layers"] == 0
    assert measured["gradients/norm"] == pytest.approx(clipping[0], rel=1e-5)
    with pytest.raises(ValueError, match=r"'0\.\*' matches no trained parameter"):
        Run(GradientMonitor(groups={"a": "0.*"}), model=monitored.trainer.model).begin()


def test_a_group_with_the_name_of_a_secret_is_shown_in_run_json():
    kept = configuration({"it": GradientMonitor(groups={"token": "0.weight", "api_key": ["2.*"]})})
    assert without_secrets(kept)["it"]["groups"] == {"token": "0.weight", "api_key": ["2.*"]}


# ---------------------------------------------------------------------------------------------- layers that stand out


def deep():
    return nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)))


def test_layers_that_get_no_gradient_are_named_once(said):
    monitored = run(model=deep())
    deaden(*monitored.trainer.model[:5])
    for _ in range(2):
        measured = monitored.epoch(1.0, 1.0)
        assert measured["gradients/dead_layers"] == 5
        assert measured["gradients/3"] == 0
        assert measured["gradients/5"] > 0
    assert said.warnings == ["GradientMonitor: epoch 1: no gradient in any of 2 sampled steps: 0, 1, 2 and 2 more"]
    deaden(monitored.trainer.model[5])
    monitored.epoch(1.0)
    assert said.warnings[1:] == ["GradientMonitor: epoch 3: no gradient in any of 1 sampled steps: 5"]


def test_layers_that_explode_are_named_once_also_if_they_were_dead_before(said):
    monitored = run()
    hooks = deaden(monitored.trainer.model[0])
    monitored.epoch(1.0)
    for hook in hooks:
        hook.remove()
    for _ in range(2):
        measured = monitored.epoch(math.inf)
        assert measured["gradients/exploding_layers"] == 2
        assert not math.isfinite(measured["gradients/norm"])
    assert said.warnings[1:] == ["GradientMonitor: epoch 2: exploding: 0, 2"]


def test_how_far_above_the_usual_a_layer_explodes():
    found = []
    for factor in (1.001, 1e9):
        monitored = run(GradientMonitor(every_n_steps=1, exploding_factor=factor))
        monitored.epoch(*[1.0] * 10)
        found.append(monitored.epoch(5.0)["gradients/exploding_layers"])
    assert found == [2, 0]


def test_verbose_0_measures_and_says_nothing(said):
    monitored = run(GradientMonitor(every_n_steps=1, verbose=0))
    deaden(monitored.trainer.model[0])
    assert monitored.epoch(1.0)["gradients/dead_layers"] == 1
    assert not said.warnings


@pytest.mark.parametrize("where", ["_norms", "GradientNorms.take"])
def test_an_error_is_told_once_and_ends_the_measurement(where, said, monkeypatch):
    def fail(*_):
        raise RuntimeError("a device of another kind")

    monkeypatch.setattr(f"yolo_callbacks.trainer.model.gradient_norms.{where}", fail)
    monitored = run()
    assert monitored.epoch(1.0) == monitored.epoch(1.0) == {}
    (told,) = said.warnings
    assert told == "GradientMonitor failed; training continues: RuntimeError: a device of another kind"
    assert traces(monitored.trainer) == []


def test_nothing_is_left_at_the_end_and_a_second_run_begins_anew(said):
    monitor = GradientMonitor(every_n_steps=1)
    for _ in range(2):
        monitored = run(monitor)
        deaden(monitored.trainer.model[0])
        monitored.epoch(1.0)
        monitored.session.end()
        assert traces(monitored.trainer) == []
        assert monitor.measure(monitored.session) == {}
    assert len(said.warnings) == 2  # each run is told of its own


def test_it_is_pickled_without_the_run():
    monitored = run(GradientMonitor(every_n_steps=7, groups={"stem": "0.*"}))
    copy = pickle.loads(pickle.dumps(monitored.monitor))
    assert copy.get_config() == monitored.monitor.get_config()
    assert copy.measure(monitored.session) == {}
    assert monitored.epoch(1.0)


# ---------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every_n_steps": 0}, ValueError, "every_n_steps=0 must be >= 1"),
        ({"every_n_steps": 1.5}, TypeError, "every_n_steps=1.5 must be a whole number >= 1, not float"),
        ({"groups": "part"}, ValueError, r"groups='part' must be 'parts', 'layers', a dict .* \(did you mean 'parts'"),
        ({"groups": ["model.0.*"]}, ValueError, r"groups=\['model.0.\*'\] must be 'parts', 'layers', a dict"),
        (
            {"groups": {"norm": "model.0"}},
            ValueError,
            "groups has the name 'norm': it must be a string, and not one of norm, norm_max, clipped",
        ),
        ({"groups": {"": "model.0"}}, ValueError, "groups has the name ''"),
        ({"groups": {3: "model.0"}}, ValueError, "groups has the name 3: it must be a string"),
        ({"groups": {"a": []}}, TypeError, r"groups\['a'\]=\[\] must be a pattern such as 'model.0"),
        ({"groups": {"a": [3]}}, TypeError, r"groups\['a'\]=\[3\] must be a pattern"),
        ({"exploding_factor": 1}, ValueError, "exploding_factor=1 must be a finite number > 1"),
        ({"exploding_factor": "high"}, TypeError, "exploding_factor='high' must be a number > 1"),
        ({"verbose": -1}, ValueError, "verbose=-1 must be >= 0"),
        ({"verbose": "yes"}, TypeError, "verbose='yes' must be a whole number"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        GradientMonitor(**arguments)


@pytest.mark.parametrize("groups", ["parts", "layers", None, {"stem": ("model.0.*", "model.1.*")}])
def test_what_it_was_built_with_is_kept(groups):
    given = {"every_n_steps": 3, "groups": groups, "exploding_factor": 2.5, "verbose": 0}
    assert GradientMonitor(**given).get_config() == given
    assert GradientMonitor(**GradientMonitor(**given).get_config()).get_config() == given
