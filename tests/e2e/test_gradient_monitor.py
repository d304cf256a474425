"""GradientMonitor and ActivationMonitor on the real trainer, against what PyTorch's own clipping says."""

import json
import math
import statistics
from collections import defaultdict

import pandas as pd
import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks import ActivationMonitor, CSVLogger, FreezeBackbone, GradientMonitor
from yolo_callbacks.trainer.model.watch import Watch

BY_BATCH = {"batch": 2, "nbs": 2, "warmup_epochs": 0}
"""Two batches an epoch, each with a step of its own."""


class Clipping:
    """Notes what PyTorch's clipping returns, and the norm of the head's gradients then, by epoch."""

    def __init__(self, monkeypatch):
        self.norms, self.heads, self.trainer = defaultdict(list), defaultdict(list), None
        clip = torch.nn.utils.clip_grad_norm_

        def recorded(parameters, *args, **kwargs):
            head = unwrap_model(self.trainer.model).model[-1].parameters()
            gradients = [parameter.grad.double().flatten() for parameter in head if parameter.grad is not None]
            self.heads[self.trainer.epoch + 1].append(float(torch.cat(gradients).norm()))
            norm = clip(parameters, *args, **kwargs)
            self.norms[self.trainer.epoch + 1].append(float(norm))
            return norm

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)

    def watch(self, model):
        model.add_callback("on_train_epoch_start", self._begin)

    def _begin(self, trainer):
        self.trainer = trainer
        for kept in (self.norms, self.heads):
            kept.pop(trainer.epoch + 1, None)  # the epoch may start again


@pytest.fixture
def clipping(monkeypatch):
    return Clipping(monkeypatch)


def left_behind(model):
    """Return the attributes and hooks of ours that a trainer still has."""
    trainer = model.trainer
    hooks = [
        hook for module in trainer.model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)
    ]
    hooks += list(trainer.optimizer._optimizer_step_pre_hooks)
    functions = trainer.callbacks["on_train_batch_start"]
    hooks += [function for function in functions if isinstance(getattr(function, "__self__", None), Watch)]
    return [name for name in ("optimizer_step",) if name in vars(trainer)] + hooks


def check_norms(run, clipping, epochs=None):
    frame = run.history
    for epoch in epochs or frame.index:
        norms = clipping.norms[epoch]
        if not norms:  # older versions take no step in an epoch of few batches that they repeat
            assert math.isnan(frame.loc[epoch, "gradients/norm"])
            continue
        assert frame.loc[epoch, "gradients/norm"] == pytest.approx(statistics.mean(norms), rel=1e-5)
        assert frame.loc[epoch, "gradients/norm_max"] == pytest.approx(max(norms), rel=1e-5)
        assert frame.loc[epoch, "gradients/head"] == pytest.approx(statistics.mean(clipping.heads[epoch]), rel=1e-5)
        assert frame.loc[epoch, "gradients/clipped"] == sum(norm > 10 for norm in norms) / len(norms)


def check_activations(folder, layer, expected, head):
    """Check the numbers of a layer, and which layers have any."""
    lines = (folder / "callbacks" / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line)["record"]["metrics"] for line in lines if "record" in line]
    assert {name.split("/")[1] for name in records[0] if name.startswith("activations/")} == expected
    for metrics in records:
        assert metrics[f"activations/{layer}/std"] > 0
        assert 0 <= metrics[f"activations/{layer}/zero_share"] < 0.5
        assert metrics[f"activations/{layer}/non_finite"] == 0
        assert f"activations/{head}/dead_channels" not in metrics  # it puts out several tensors


# ---------------------------------------------------------------------------------------------- values


LAYERS = ("model.4", "model.2.m.?", -1)


@pytest.mark.parametrize(
    ("architecture", "optimizer", "dtype", "epochs"),
    [("yolo26n.yaml", "AdamW", torch.bfloat16, 2), (TINY_MODEL, "MuSGD", torch.float32, 1)],
)
def test_norms_are_those_that_clipping_finds(optimizer, dtype, epochs, train, architecture, clipping, monkeypatch):
    if dtype is torch.bfloat16:  # which Ultralytics does on a GPU only, and without a GradScaler
        monkeypatch.setattr("ultralytics.engine.trainer.autocast", lambda *_, **__: torch.autocast("cpu", dtype))
    arguments = {"optimizer": optimizer, "epochs": epochs, **BY_BATCH}
    outputs = [ActivationMonitor(LAYERS, every_n_batches=1)] if architecture != TINY_MODEL else []
    run = train([GradientMonitor(every_n_steps=1), *outputs, CSVLogger()], before=clipping.watch, **arguments)
    assert [len(norms) for norms in clipping.norms.values()] == [2] * epochs
    check_norms(run, clipping)
    written = pd.read_csv(run.save_dir / "callbacks" / "epochs.csv").set_index("epoch")
    names = [name for name in run.history if name.startswith("gradients/")]
    parts = ("backbone", "head") if architecture == TINY_MODEL else ("backbone", "neck", "head")
    assert names == [
        f"gradients/{name}" for name in ("norm", "norm_max", "clipped", *parts, "dead_layers", "exploding_layers")
    ]
    pd.testing.assert_frame_equal(written[names], run.history[names])
    assert left_behind(train.model) == []
    if outputs:
        check_activations(run.save_dir, "model.4", {"model.4", "model.2.m.0", "model.23"}, head="model.23")


def test_layers_that_are_frozen_for_a_while_are_not_dead_meanwhile(train, clipping, said):
    callbacks = [GradientMonitor(every_n_steps=1), FreezeBackbone(2)]
    run = train(callbacks, before=clipping.watch, **BY_BATCH)
    assert run.history["FreezeBackbone/lr_factor"].tolist() == [0, 0, 1]
    # the head's branches may well be dead on four pictures, the backbone is not
    assert not any(f"model.{layer}." in text for text in said.warnings for layer in range(3))
    backbone = run.history["gradients/backbone"]
    assert backbone.gt(0).tolist() == [False, False, True]
    check_norms(run, clipping)


# ---------------------------------------------------------------------------------------------- AMP


def scaled_by(scaler):
    """Return what gives the trainer a GradScaler that works on the CPU."""

    def use(trainer):
        trainer.scaler = scaler

    return lambda model: model.callbacks["on_pretrain_routine_end"].insert(0, use)


def test_the_scale_is_taken_out_and_skipped_steps_are_counted(train, clipping):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)

    def overflow(gradient):
        return torch.full_like(gradient, math.inf) if clipping.trainer.epoch == 1 and overflow.left.pop() else gradient

    overflow.left = [False, True]

    def before(model):
        scaled_by(scaler)(model)
        clipping.watch(model)
        bias = "model.3.one2one_cv3.0.2.bias"
        parameter = lambda trainer: trainer.model.get_parameter(bias)  # noqa: E731
        model.add_callback("on_train_start", lambda trainer: parameter(trainer).register_hook(overflow))

    run = train([GradientMonitor(every_n_steps=1), CSVLogger()], before=before, **BY_BATCH)
    assert run.history["gradients/skipped"].tolist() == [0, 1, 0]
    assert not math.isfinite(clipping.norms[2][0])
    for kept in (clipping.norms, clipping.heads):
        kept[2].pop(0)
    check_norms(run, clipping)
    assert scaler.get_scale() == 2.0**11


# ---------------------------------------------------------------------------------------------- nothing changes


@pytest.fixture(scope="module")
def pair(shapes, tmp_path_factory):
    """Train without and with both monitors; the first training of a process is not compared."""
    folder, runs = tmp_path_factory.mktemp("pair"), {}
    for name, epochs in (("first", 1), ("without", 3), ("with", 3)):
        model = YOLO(TINY_MODEL, verbose=False)
        if name == "with":
            layers = ["model.1", "model.[02]", -1]
            ycb.attach(model, [GradientMonitor(every_n_steps=1), ActivationMonitor(layers, every_n_batches=1)])
        runs[name] = model
        model.train(data=str(shapes), project=str(folder), name=name, epochs=epochs, **{**TINY, **BY_BATCH})
    return folder, runs


def test_training_gives_the_same_digits(pair):
    folder, _ = pair
    frames = [pd.read_csv(folder / name / "results.csv").drop(columns="time") for name in ("without", "with")]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    states = [YOLO(folder / name / "weights" / "last.pt").model.state_dict() for name in ("without", "with")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_checkpoints_know_nothing_of_hooks(pair):
    folder, runs = pair
    content = (folder / "with" / "weights" / "last.pt").read_bytes()
    assert b"yolo_callbacks" not in content
    assert left_behind(runs["with"]) == []


def test_activations_of_chosen_layers(pair):
    folder, _ = pair
    check_activations(folder / "with", "model.1", {"model.0", "model.1", "model.2", "model.3"}, head="model.3")


# ---------------------------------------------------------------------------------------------- accidents


def monitors():
    return [GradientMonitor(every_n_steps=1), ActivationMonitor("model.1", every_n_batches=1), CSVLogger()]


def test_a_repeated_epoch_counts_once(train, clipping):
    left = [True]

    def write_nan(trainer):
        if trainer.epoch == 1 and trainer.tloss is not None and left:
            left.clear()
            next(trainer.model.parameters()).data.fill_(math.nan)

    def before(model):
        clipping.watch(model)
        model.add_callback("on_train_batch_start", write_nan)

    run = train(monitors(), before=before, optimizer="AdamW", **BY_BATCH)
    assert not left
    check_norms(run, clipping)
    assert run.history["activations/model.1/non_finite"].tolist() == [0, 0, 0]
    assert left_behind(train.model) == []


def test_running_out_of_memory_in_a_forward_pass(train, clipping):
    hooks = []

    def fail(*_):
        hooks.pop().remove()
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def before(model):
        clipping.watch(model)
        model.add_callback("on_train_start", lambda t: hooks.append(t.model.model[2].register_forward_pre_hook(fail)))

    run = train(monitors(), before=before, epochs=2, **BY_BATCH)
    assert not hooks
    check_norms(run, clipping)
    assert run.history["activations/model.1/std"].gt(0).all()
    assert left_behind(train.model) == []


@pytest.mark.parametrize(
    ("event", "error"), [("on_train_batch_start", KeyboardInterrupt), ("on_train_batch_end", RuntimeError)]
)
def test_nothing_is_left_after_an_exception(error, event, shapes, tmp_path):
    def fail(trainer):
        raise error("enough")

    model = YOLO(TINY_MODEL, verbose=False)
    ycb.attach(model, monitors())
    model.add_callback(event, fail)
    with pytest.raises(error):
        model.train(data=str(shapes), project=str(tmp_path), epochs=3, **{**TINY, **BY_BATCH})
    assert left_behind(model) == []
    assert [name for name in vars(model.trainer) if name == "optimizer_step"] == []


def test_an_error_in_the_probe_does_not_end_the_training(train, said, monkeypatch):
    def fail(*_):
        raise RuntimeError("a device of another kind")

    monkeypatch.setattr("yolo_callbacks.trainer.model.gradient_norms._norms", fail)
    monkeypatch.setattr("yolo_callbacks.trainer.model.output_numbers._tensors", fail)
    run = train(monitors(), epochs=2, **BY_BATCH)
    ending = "failed; training continues: RuntimeError: a device of another kind"
    assert sorted(said.warnings) == [f"ActivationMonitor {ending}", f"GradientMonitor {ending}"]
    assert len(run.history) == 2
    assert run.history.filter(regex="gradients/|activations/").isna().all(axis=None)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            ActivationMonitor(["model.1", "modle.2"]),
            "ActivationMonitor: 'modle.2' is not a layer .*did you mean 'model.2'",
        ),
        (ActivationMonitor(99), "ActivationMonitor: layer 99 is not a layer of this model, which has 4"),
        (GradientMonitor(groups={"stem": "model.0.konv.*"}), "GradientMonitor: 'model.0.konv.*' matches no trained"),
    ],
    ids=["name", "number", "pattern"],
)
def test_layers_that_are_not_there_fail_before_the_first_epoch(callback, message, train):
    started = []
    with pytest.raises(ValueError, match=message):
        train([callback], before=lambda m: m.add_callback("on_train_epoch_start", lambda t: started.append(1)))
    assert started == []


# ---------------------------------------------------------------------------------------------- more than one run


def test_one_model_trained_twice_and_resumed(shapes, tmp_path, clipping):
    model = YOLO(TINY_MODEL, verbose=False)
    run = ycb.attach(model, monitors())
    clipping.watch(model)
    settings = {"data": str(shapes), "project": str(tmp_path), **TINY, **BY_BATCH}
    model.train(name="one", epochs=1, **settings)
    check_norms(run, clipping)

    def stop(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model.add_callback("on_train_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        model.train(name="two", epochs=3, **settings)
    resumed = YOLO(tmp_path / "two" / "weights" / "last.pt")
    run = ycb.attach(resumed, monitors())
    clipping.watch(resumed)
    resumed.train(resume=True)
    assert run.history.index.tolist() == [1, 2, 3]
    check_norms(run, clipping)
    assert left_behind(resumed) == []


def test_registered_by_one_method_alone(shapes, tmp_path, clipping):
    model = YOLO(TINY_MODEL, verbose=False)
    for callback in (GradientMonitor(every_n_steps=1), ActivationMonitor(every_n_batches=1), CSVLogger()):
        model.add_callback("on_train_epoch_start", callback.on_train_epoch_start)
    clipping.watch(model)
    model.train(data=str(shapes), project=str(tmp_path), name="run", epochs=2, **{**TINY, **BY_BATCH})
    frame = pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")
    assert frame["gradients/norm"].tolist() == pytest.approx(
        [statistics.mean(norms) for norms in clipping.norms.values()], rel=1e-5
    )
    assert frame["activations/model.2/std"].gt(0).all()
    assert left_behind(model) == []
