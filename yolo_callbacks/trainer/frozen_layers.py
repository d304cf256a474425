"""Freezes layers of a trainer's model mid-run. Used only by `run.py` and `run_state.py`.

Frozen means the same as in Ultralytics' own `freeze`: no gradient is computed (`requires_grad`), so no optimizer
changes the weights, not even by weight decay; and the layer is on the trainer's own list, which puts its BatchNorm into
eval mode, so that its statistics do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.layer_patterns import LayerNames, Layers, select
from yolo_callbacks.support.checks import SettingError
from yolo_callbacks.trainer.parameter_rates import ParameterRates, reset_state


class FrozenLayers:
    """Freezes and unfreezes layers of one training. What the user or Ultralytics has frozen remains frozen.

    Args:
        trainer: The trainer; not read before its model is built.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._frozen: frozenset[str] = frozenset()  # by us
        self._listed: list[str] = []  # our entries on the trainer's list
        self._rates = ParameterRates()

    @property
    def names(self) -> LayerNames:
        """The names of the model's parts, without the wrappers of DDP, torch.compile or a distillation teacher."""
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
            ValueError: If a pattern matches nothing; the message gives the nearest name.
        """
        return select(layers, self.names)

    def apply(self, state: FreezeState) -> None:
        """Apply the state to the model, the trainer's list and the optimizer. Idempotent.

        Call it before every epoch on every rank, after DDP has wrapped the model: DDP synchronizes only parameters that
        were trainable at that time. An epoch that is repeated after NaN takes the optimizer's state from a checkpoint,
        which may include the momentum of layers that are frozen now.

        Raises:
            ValueError: If nothing trainable would be left, or layers cannot be frozen in this training.
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
        """Give the optimizer its original parameter groups back, even after an error in its step."""
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
            raise SettingError("this would freeze every trainable layer: leave some out")
        if not getattr(self._trainer.model, "find_unused_parameters", True):
            raise SettingError(
                "layers cannot be frozen mid-run on several GPUs with compile=True, because PyTorch reuses the first "
                "step's graph and fails when they are unfrozen: use compile=False, or one GPU"
            )

    def _words(self, modules: list[str]) -> list[str]:
        """Return the words that make Ultralytics keep the statistics of these modules, and of no others.

        It searches for them anywhere in a name: with the dot, `model.1` is not found in `model.10`.

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
                    f"'{word}' cannot be frozen without the BatchNorm statistics of '{mistaken[0]}', because "
                    "Ultralytics matches names by substring: freeze both or neither"
                )
        return words

    def _list(self, words: list[str]) -> None:
        """Replace our words on the trainer's own list of frozen layers."""
        if not hasattr(self._trainer, "freeze_layer_names"):
            self._trainer.freeze_layer_names = []
        others = [word for word in self._trainer.freeze_layer_names if word not in self._listed]
        self._listed = [word for word in words if word not in others]
        self._trainer.freeze_layer_names[:] = others + self._listed


def _whole_modules(parameters: Mapping[str, Any], frozen: frozenset[str], learn: frozenset[str]) -> list[str]:
    """Return the outermost modules whose trainable parameters are all frozen."""
    learns: dict[str, bool] = {}
    for name in parameters:
        module = name
        while module := module.rpartition(".")[0]:
            if name in learn:
                learns[module] = learns.get(module, False) or name not in frozen
    whole = [module for module, some in learns.items() if not some]
    return [module for module in whole if learns.get(module.rpartition(".")[0], True)]
