"""A learning-rate range test on Ultralytics' own trainer, in a folder of its own, which leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from yolo_callbacks.core.lr_range import AutoChoice, Divergence, auto_choice, rate_at
from yolo_callbacks.support.checks import SettingError
from yolo_callbacks.trainer.exact.random_state import generators, set_generators
from yolo_callbacks.trainer.learning_rate import lowest_group

_OFF: dict[str, Any] = {"val": False, "save": False, "plots": False, "warmup_epochs": 0, "patience": 0, "time": None}


@dataclass(frozen=True)
class RangeTest:
    """What to try.

    Attributes:
        min_lr: The first rate.
        max_lr: The last rate.
        steps: Number of steps of the optimizer.
        mode: How the rate grows.
        threshold: How many times its best value the running loss may reach; None for no limit.
    """

    min_lr: float
    max_lr: float
    steps: int
    mode: str
    threshold: float | None


@dataclass
class Measured:
    """What was measured.

    Attributes:
        lrs: The rates of the steps that were made.
        losses: The training loss of each.
        optimizer: The optimizer that was used.
        auto: What `optimizer=auto` would choose; None before the first step.
        asked_auto: Whether it was asked for.
        diverged: Whether the loss diverged before the last step.
    """

    lrs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    optimizer: str = ""
    auto: AutoChoice | None = None
    asked_auto: bool = False
    diverged: bool = False


class _Done(Exception):
    """Leaves the training loop; never leaves this module."""


def measure(model: Any, arguments: Mapping[str, Any], test: RangeTest) -> Measured:
    """Train with rising rates, and return the losses. The model is only read, and random generators are restored.

    Args:
        model: An Ultralytics model.
        arguments: Arguments for `model.train`.
        test: What to try.

    Raises:
        SettingError: If several devices are asked for.
    """
    device = _cuda_device()
    before = generators(device)
    trainer: Any = None
    with tempfile.TemporaryDirectory(prefix="lr-find-") as folder:
        try:
            trainer = _trainer(model, {**arguments, **_OFF, "project": folder, "name": "run", "exist_ok": True})
            if trainer.world_size > 1:
                raise SettingError("a range test runs on one device: give one, such as device=0")
            steps = _Steps(trainer, test)
            trainer.train()
        except _Done:
            pass
        finally:
            _close(trainer)
            set_generators(before, device)
    return steps.measured


def _trainer(model: Any, arguments: dict[str, Any]) -> Any:
    """Return a new trainer for a model, as `model.train` makes it, but without any callback or integration."""
    from ultralytics.cfg import TASK2DATA
    from ultralytics.utils import RANK

    if RANK != -1:
        raise SettingError("a range test cannot run within a training on several devices")
    functions: dict[str, list[Callable[[Any], Any]]] = defaultdict(list)
    functions["on_pretrain_routine_start"].append(_silence)
    own = {"model": model.overrides["model"], "task": model.task, "mode": "train"}
    overrides = {**model.overrides, **arguments, **own, "data": arguments.get("data") or TASK2DATA[model.task]}
    pretrained = overrides.setdefault("pretrained", True)
    trainer = model._smart_load("trainer")(overrides=overrides, _callbacks=functions)
    if model.ckpt:
        weights = None if pretrained is False else model.model
        if isinstance(pretrained, str):
            from ultralytics.nn.tasks import load_checkpoint

            weights, _ = load_checkpoint(pretrained)
        trainer.model = trainer.get_model(weights=weights, cfg=model.model.yaml)
    return trainer


def _silence(trainer: Any) -> None:
    """Take every function off a trainer before an integration begins a run of its own. The lists stay the same ones."""
    for functions in trainer.callbacks.values():
        functions.clear()


class _Steps:
    """Sets the rate of every step of a trainer's optimizer, and measures its loss."""

    def __init__(self, trainer: Any, test: RangeTest) -> None:
        self._trainer, self._test = trainer, test
        self._losses: list[float] = []
        self._divergence = Divergence(test.threshold)
        self._ratios: list[float] = []
        self._stepped = False
        self.measured = Measured(asked_auto=str(trainer.args.optimizer).lower() == "auto")
        own_step = trainer.optimizer_step

        def optimizer_step() -> None:
            own_step()
            self._end_step()

        trainer.optimizer_step = optimizer_step
        trainer.callbacks["on_train_start"].append(self._begin)
        trainer.callbacks["on_train_batch_start"].append(self._set_rate)
        trainer.callbacks["on_train_batch_end"].append(self._end_batch)

    def _begin(self, trainer: Any) -> None:
        measured = self.measured
        measured.optimizer = type(trainer.optimizer).__name__
        images, nbs, classes = len(trainer.train_loader.dataset), int(trainer.args.nbs), int(trainer.data.get("nc", 10))
        measured.auto = auto_choice(images, int(trainer.batch_size), nbs, int(trainer.epochs), classes)
        lowest = lowest_group(trainer)[1]
        groups = trainer.optimizer.param_groups
        self._ratios = [group.get("initial_lr", group["lr"]) / lowest if lowest else 1.0 for group in groups]
        batches = self._test.steps * int(trainer.accumulate)
        trainer.epochs = max(trainer.epochs, batches // len(trainer.train_loader) + 2)  # the test ends by itself

    @property
    def _rate(self) -> float:
        test = self._test
        return rate_at(len(self.measured.lrs), test.steps, test.min_lr, test.max_lr, test.mode)

    def _set_rate(self, trainer: Any) -> None:
        for group, ratio in zip(trainer.optimizer.param_groups, self._ratios):
            group["lr"] = self._rate * ratio

    def _end_step(self) -> None:
        """Note the loss before the step: that of the batches whose gradients it used."""
        losses = [*self._losses, float(self._trainer.loss.detach())]
        loss = sum(losses) / len(losses)
        self._losses, self._stepped = [], True
        self._divergence = self._divergence.after(loss)
        self.measured.lrs.append(self._rate)
        self.measured.losses.append(loss)
        self.measured.diverged = self._divergence.diverged
        if self._divergence.diverged or len(self.measured.lrs) == self._test.steps:
            raise _Done

    def _end_batch(self, trainer: Any) -> None:
        """Note the loss of a batch whose gradients wait for the next step."""
        if not self._stepped:
            self._losses.append(float(trainer.loss.detach()))
        self._stepped = False


def _cuda_device() -> Any:
    """Return the GPU whose random numbers have been used; None if there is none."""
    import torch

    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.device("cuda", torch.cuda.current_device()) if used else None


def _close(trainer: Any) -> None:
    """End the workers of a trainer's data loaders, and its demand for deterministic algorithms."""
    from ultralytics.utils.torch_utils import unset_deterministic

    unset_deterministic()
    for name in ("train_loader", "test_loader"):
        loader: Any = vars(trainer).get(name) if trainer is not None else None
        if hasattr(loader, "close"):
            loader.close()
