"""Which layers are frozen, and the learning-rate factors of the others.

`trainer/frozen_layers.py` applies it to the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yolo_callbacks.core.decision import Decision, SetFrozen
from yolo_callbacks.core.layer_patterns import LayerNames, Layers, select


@dataclass(frozen=True)
class FreezeState:
    """The requests of all callbacks. The same decisions in the same order give the same state.

    Attributes:
        asked: By source and layers: whether to freeze them, and the factor on their learning rate. A new request of a
            source replaces its earlier one for the same layers.
    """

    asked: Mapping[tuple[str, Layers], tuple[bool, float]] = field(default_factory=dict)

    def after(self, decision: Decision) -> FreezeState:
        """Return the state after a decision; only `SetFrozen` changes it."""
        if not isinstance(decision, SetFrozen):
            return self
        key, value = (decision.source, decision.layers), (decision.frozen, decision.lr_factor)
        return FreezeState({**self.asked, key: value})

    @property
    def touched(self) -> bool:
        """Whether there was any request; if not, the trainer is left alone."""
        return bool(self.asked)

    def frozen(self, names: LayerNames) -> frozenset[str]:
        """Return the frozen parameters: those that any source wants frozen.

        Raises:
            ValueError: If a pattern matches nothing in the model.
        """
        chosen = [select(layers, names) for (_, layers), (frozen, _) in self.asked.items() if frozen]
        return frozenset().union(*chosen)

    def factors(self, names: LayerNames) -> dict[str, float]:
        """Return, for each parameter with a factor on its group's learning rate, the product of its factors.

        Raises:
            ValueError: If a pattern matches nothing in the model.
        """
        frozen, factors = self.frozen(names), dict[str, float]()
        for (_, layers), (_, factor) in self.asked.items():
            for name in select(layers, names) - frozen if factor != 1.0 else ():
                factors[name] = factors.get(name, 1.0) * factor
        return {name: factor for name, factor in factors.items() if factor != 1.0}
