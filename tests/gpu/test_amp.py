"""Automatic mixed precision and its GradScaler, under every controller and under what looks at the gradients."""

import math
from itertools import compress

import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests.e2e.test_gradient_monitor import Clipping, check_norms, left_behind
from tests.helpers import Crash, constant, crash_in, slower

pytestmark = pytest.mark.gpu

BIAS = "model.23.one2one_cv3.0.2.bias"
BACKBONE = tuple(f"model.{index}." for index in range(11))
CONTROLLERS = {
    "EarlyStopping": (
        lambda: ycb.EarlyStopping(constant, patience=2, mode="max", restore_best_weights=True),
        {"epochs": 3},
    ),
    "EarlyStopping that finishes": (
        lambda: ycb.EarlyStopping(constant, patience=1, mode="max", on_plateau="finish", finish_epochs=1),
        {"epochs": 3},
    ),
    "ReduceLROnPlateau": (
        lambda: ycb.ReduceLROnPlateau(constant, patience=1, mode="max", factor=0.5),
        {"factors": [1, 1, 0.5, 0.25]},
    ),
    "LearningRateScheduler": (lambda: ycb.LearningRateScheduler(slower), {"factors": [0.8, 0.64, 0.512, 0.4096]}),
    "ModelCheckpoint": (
        lambda: ycb.ModelCheckpoint("e{epoch}", save_best_only=False, save_last=True),
        {"files": ["e1.pt", "e2.pt", "e3.pt", "e4.pt", "latest.pt"]},
    ),
    "BackupAndRestore": (ycb.BackupAndRestore, {}),
    "FreezeBackbone": (lambda: ycb.FreezeBackbone(2), {}),
}


class Batches:
    """Notes scale, skipped step and rate of each batch, by epoch, and lets one step of epoch 2 overflow."""

    def __init__(self):
        self.seen, self.left, self.trainer = {}, [True], None
        self.functions = (
            ("on_train_start", self._begin),
            ("on_train_batch_start", self._before),
            ("on_train_batch_end", self._after),
        )

    def _begin(self, trainer):
        self.trainer = trainer
        unwrap_model(trainer.model).get_parameter(BIAS).register_hook(self._overflow)

    def _overflow(self, gradient):
        if self.trainer.epoch + 1 == 2 and self.left:
            self.left.clear()
            return torch.full_like(gradient, math.inf)
        return gradient

    def _before(self, trainer):
        self._kept = self._weights()

    def _after(self, trainer):
        facts = trainer.scaler.get_scale(), torch.equal(self._kept, self._weights()), trainer.optimizer.param_groups
        self.seen.setdefault(trainer.epoch + 1, []).append((*facts[:2], facts[2][0]["lr"]))

    def _weights(self):
        return unwrap_model(self.trainer.model).get_parameter(BIAS).detach().clone()

    @property
    def scales(self):
        return [scale for batches in self.seen.values() for scale, _, _ in batches]

    @property
    def rates(self):
        return [batches[-1][2] for batches in self.seen.values()]


def check_scales(batches):
    """The step that overflows is skipped and halves the scale, and so does no other but for the first ones of a run."""
    assert not batches.left
    before, (after, skipped, _) = batches.seen[1][-1][0], batches.seen[2][0]
    assert (after, skipped) == (before / 2, True)
    steps = [(one, two) for one, two in zip(batches.scales, batches.scales[1:])]
    assert all(two in (one, one / 2) for one, two in steps)


@pytest.fixture(scope="module")
def plain(train):
    batches = Batches()
    train(None, *batches.functions)
    check_scales(batches)
    return batches


def test_the_computation_is_in_half_precision(train, device):
    kinds = set()

    def note(trainer):
        layer = unwrap_model(trainer.model).model[0].conv
        layer.register_forward_hook(lambda module, inputs, output: kinds.add((module.training, output.dtype)))

    train([ycb.CSVLogger()], ("on_train_start", note), epochs=1)
    assert (True, torch.float32 if device == "cpu" else torch.float16) in kinds


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller(name, train, plain):
    make, expected = CONTROLLERS[name]
    batches = Batches()
    model, run = train([make(), ycb.CSVLogger()], *batches.functions)
    epochs = expected.get("epochs", 4)
    assert list(batches.seen) == run.history.index.tolist() == list(range(1, epochs + 1))
    assert {type(make()).__name__} == {decision.source for decision in run.decisions}
    check_scales(batches)
    if "epochs" not in expected:
        factors = expected.get("factors", [1] * 4)
        assert batches.rates == pytest.approx([rate * factor for rate, factor in zip(plain.rates, factors)])
    assert set(expected.get("files", ())) <= {p.name for p in (run.save_dir / "weights").iterdir()}
    finished = YOLO(run.save_dir / "weights" / "last.pt").model.state_dict().values()
    assert all(torch.isfinite(value).all() for value in finished)
    assert left_behind(model) == []


def test_frozen_layers_keep_every_bit_and_then_learn(train):
    digests = []

    def note(trainer):
        parts = [unwrap_model(trainer.model).state_dict(), trainer.ema.ema.state_dict()]
        digests.append([{k: v.detach().cpu().clone() for k, v in p.items() if k.startswith(BACKBONE)} for p in parts])

    train([ycb.FreezeBackbone(2)], ("on_train_start", note), ("on_train_epoch_end", note), lr0=0.01)
    first, *rest = digests
    for epoch, both in enumerate(rest, 1):
        for old, new in zip(first, both):
            assert all(torch.equal(old[key], new[key]) for key in old) == (epoch <= 2), epoch


def test_norms_are_those_of_the_unscaled_gradients(train, monkeypatch):
    clipping, batches = Clipping(monkeypatch), Batches()
    callbacks = [ycb.GradientMonitor(every_n_steps=1), ycb.ActivationMonitor("model.4", every_n_batches=1)]
    noted = ("on_train_epoch_start", clipping._begin)
    model, run = train([*callbacks, ycb.CSVLogger()], noted, *batches.functions)
    check_scales(batches)
    skipped = [sum(not math.isfinite(norm) for norm in norms) for norms in clipping.norms.values()]
    assert run.history["gradients/skipped"].tolist() == skipped
    assert skipped[1] >= 1
    for epoch, norms in clipping.norms.items():
        done = [math.isfinite(norm) for norm in norms]
        for kept in (clipping.norms, clipping.heads):
            kept[epoch] = [*compress(kept[epoch], done)]
    check_norms(run, clipping)
    assert run.history["activations/model.4/std"].gt(0).all()
    assert left_behind(model) == []


def test_a_resumed_run_goes_on_with_the_scale(train):
    def callbacks():
        return [make() for name, (make, _) in CONTROLLERS.items() if not name.startswith("EarlyStopping")]

    cut, resumed = Batches(), {}
    model = YOLO("yolo26n.yaml", verbose=False)
    with pytest.raises(Crash):
        train(callbacks(), *cut.functions, ("on_train_epoch_start", crash_in(4)), model=model)
    folder = model.trainer.save_dir
    note = ("on_train_batch_start", lambda t: resumed.setdefault(t.epoch + 1, t.scaler.get_scale()))
    _, run = train(callbacks(), note, model=YOLO(folder / "weights" / "last.pt"), resume=True)
    assert resumed == {4: cut.seen[3][-1][0]}
    assert run.history.index.tolist() == [1, 2, 3, 4]
    assert run.history["lr_factor"].tolist() == pytest.approx([0.8, 0.64, 0.256, 0.1024])
