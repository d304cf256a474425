"""Freezing layers of a trainer's model in mid-run. Used by `run.py` alone.

Frozen means here what it means in Ultralytics' own `freeze`: no gradient is computed (`requires_grad`), so that no
optimizer touches the weights, not by weight decay either; and the layer is on the trainer's own list, which puts its
BatchNorm into eval, so that its statistics stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.layer_patterns import LayerNames, Layers, select
from yolo_callbacks.support.checks import SettingError
from yolo_callbacks.trainer.parameter_rates import ParameterRates, reset_state


class FrozenLayers:
    """Freezes and unfreezes layers of one training. What its user or Ultralytics has frozen stays frozen.

    Args:
        trainer: The trainer; looked at only when its model is built.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._frozen: frozenset[str] = frozenset()  # by us
        self._listed: list[str] = []  # what we have put on the trainer's list
        self._rates = ParameterRates()

    @property
    def names(self) -> LayerNames:
        """What the model calls its parts, without what several ranks, torch.compile or a teacher wrap it in."""
        model = self._model
        yaml = getattr(model, "yaml", None)
        layers = yaml.get("backbone") if isinstance(yaml, Mapping) else None
        return LayerNames(
            parameters=tuple(name for name, _ in model.named_parameters()),
            modules=tuple(name for name, _ in model.named_modules() if name),
            backbone=tuple(f"model.{index}" for index in range(len(layers or ()))),
        )

    def parameters(self, layers: Layers) -> frozenset[str]:
        """Return the names of the parameters in some layers.

        Raises:
            ValueError: If a pattern names nothing; the message gives the nearest name.
        """
        return select(layers, self.names)

    def apply(self, state: FreezeState) -> None:
        """Make the model, the trainer's list and the optimizer what the state says. Idempotent.

        To be called before every epoch, on every rank, when the model is wrapped for several ranks: only parameters
        that could learn then are kept the same on all of them later. An epoch that is repeated after NaN has got the
        optimizer's state from a checkpoint, and with it maybe what it remembers of layers that are frozen now.

        Raises:
            ValueError: If nothing would be left that learns, or layers cannot be frozen in this training.
        """
        if not state.touched:
            return
        names, parameters = self.names, dict(self._model.named_parameters())
        learn = self._frozen.union(name for name, parameter in parameters.items() if parameter.requires_grad)
        frozen = state.frozen(names) & learn
        words = self._words(_whole_modules(parameters, frozen, learn))
        if frozen:
            self._check(frozen, learn)
        for name in self._frozen ^ frozen:
            parameters[name].requires_grad_(name not in frozen)
        for name in frozen:
            parameters[name].grad = None
        reset_state(self._trainer.optimizer, (parameters[name] for name in frozen))
        self._frozen = frozen
        self._list(words)
        factors = {parameters[name]: factor for name, factor in state.factors(names).items()}
        self._rates.set(self._trainer.optimizer, factors)

    def restore_groups(self) -> None:
        """Give the optimizer the parameter groups that the trainer knows, also where an error has ended its step."""
        self._rates.restore_groups()

    def release(self) -> None:
        """Let go of the trainer."""
        self._trainer, self._rates = None, ParameterRates()

    @property
    def _model(self) -> Any:
        from ultralytics.utils.torch_utils import unwrap_model

        model = unwrap_model(self._trainer.model)
        return getattr(model, "student_model", model)

    def _check(self, frozen: frozenset[str], learn: frozenset[str]) -> None:
        if frozen >= learn:
            raise SettingError("all layers that can learn would be frozen: leave some out")
        if not getattr(self._trainer.model, "find_unused_parameters", True):
            raise SettingError(
                "layers cannot be frozen in mid-run on several ranks with compile=True: PyTorch then takes the first "
                "step's graph for that of all, and fails when they learn again; use compile=False, or one GPU"
            )

    def _words(self, modules: list[str]) -> list[str]:
        """Return what makes Ultralytics keep the statistics of some modules, and of no others.

        It looks for these words anywhere in a name: with the dot, `model.1` is not found in `model.10`.

        Raises:
            ValueError: If there are no such words.
        """
        from torch.nn import BatchNorm2d

        norms = [name for name, module in self._model.named_modules() if isinstance(module, BatchNorm2d)]
        words = [name if name in norms else f"{name}." for name in modules]
        inside = tuple(f"{name}." for name in modules)
        for word in words:
            mistaken = [norm for norm in norms if word in norm and not f"{norm}.".startswith(inside)]
            if mistaken:
                raise SettingError(
                    f"'{word}' cannot be frozen without the statistics of '{mistaken[0]}', as Ultralytics finds the "
                    "one name in the other: freeze both or neither"
                )
        return words

    def _list(self, words: list[str]) -> None:
        """Put words on the trainer's own list of frozen layers, in place of those that we have put there before."""
        if not hasattr(self._trainer, "freeze_layer_names"):
            self._trainer.freeze_layer_names = []
        others = [word for word in self._trainer.freeze_layer_names if word not in self._listed]
        self._listed = [word for word in words if word not in others]
        self._trainer.freeze_layer_names[:] = others + self._listed


def _whole_modules(parameters: Mapping[str, Any], frozen: frozenset[str], learn: frozenset[str]) -> list[str]:
    """Return the outermost modules of which all that could learn is frozen."""
    learns: dict[str, bool] = {}
    for name in parameters:
        module = name
        while module := module.rpartition(".")[0]:
            if name in learn:
                learns[module] = learns.get(module, False) or name not in frozen
    whole = [module for module, some in learns.items() if not some]
    return [module for module in whole if learns.get(module.rpartition(".")[0], True)]
