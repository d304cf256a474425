"""Which layers are frozen, and which share of the learning rate the others get.

`trainer/frozen_layers.py` puts it in force in the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yolo_callbacks.core.decision import Decision, SetFrozen
from yolo_callbacks.core.layer_patterns import LayerNames, Layers, select


@dataclass(frozen=True)
class FreezeState:
    """What each source has asked for. The same decisions in the same order give the same state.

    Attributes:
        asked: Whether layers are frozen, and the factor of their learning rate, by source and layers: a new
            request of a source replaces its earlier one for the same layers.
    """

    asked: Mapping[tuple[str, Layers], tuple[bool, float]] = field(default_factory=dict)

    def after(self, decision: Decision) -> FreezeState:
        """Return the state after a decision; other kinds than `SetFrozen` change nothing."""
        if not isinstance(decision, SetFrozen):
            return self
        key, value = (decision.source, decision.layers), (decision.frozen, decision.lr_factor)
        return FreezeState({**self.asked, key: value})

    @property
    def touched(self) -> bool:
        """Whether anything was ever asked for; if not, the trainer is left alone."""
        return bool(self.asked)

    def frozen(self, names: LayerNames) -> frozenset[str]:
        """Return the parameters that are frozen: those that any source wants frozen.

        Raises:
            ValueError: If a pattern names nothing in the model.
        """
        chosen = [select(layers, names) for (_, layers), (frozen, _) in self.asked.items() if frozen]
        return frozenset().union(*chosen)

    def factors(self, names: LayerNames) -> dict[str, float]:
        """Return the factor of each parameter that learns at another rate than its group: the product of all.

        Raises:
            ValueError: If a pattern names nothing in the model.
        """
        frozen, factors = self.frozen(names), dict[str, float]()
        for (_, layers), (_, factor) in self.asked.items():
            for name in select(layers, names) - frozen if factor != 1.0 else ():
                factors[name] = factors.get(name, 1.0) * factor
        return {name: factor for name, factor in factors.items() if factor != 1.0}
