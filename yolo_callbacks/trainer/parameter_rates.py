"""Learning rates of some parameters, as a factor of their group's rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class ParameterRates:
    """Lets some parameters learn at their group's rate times a factor of their own.

    Permanent groups would be in every checkpoint, and Ultralytics could not resume from it, because it rebuilds only
    its own groups. So the groups are split only during a step, after the trainer has set its rates. Optimizers keep
    their state by parameter, not by group, so each parameter learns exactly as in a permanent group with that rate.
    """

    def __init__(self) -> None:
        self._factors: dict[Any, float] = {}
        self._optimizer: Any = None
        self._hooks: list[Any] = []
        self._whole: Any = None

    def set(self, optimizer: Any, factors: Mapping[Any, float]) -> None:
        """Apply factors from the next step on, in place of the earlier ones.

        Args:
            optimizer: The trainer's optimizer.
            factors: Factor by parameter; without any, the hooks are removed from the optimizer.
        """
        self.restore_groups()
        self._factors = dict(factors)
        if self._hooks and (optimizer is not self._optimizer or not factors):
            while self._hooks:
                self._hooks.pop().remove()
        if factors and not self._hooks:
            self._hooks = [
                optimizer.register_step_pre_hook(lambda *_: self._split()),
                optimizer.register_step_post_hook(lambda *_: self.restore_groups()),
            ]
        self._optimizer = optimizer

    def restore_groups(self) -> None:
        """Restore the original groups, even after an error in a step."""
        if self._whole is not None:
            self._optimizer.param_groups, self._whole = self._whole, None

    def _split(self) -> None:
        self.restore_groups()
        self._whole = self._optimizer.param_groups
        self._optimizer.param_groups = [part for group in self._whole for part in self._parts(group)]

    def _parts(self, group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a group for each factor; a group without factors is unchanged."""
        by_factor: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(self._factors.get(parameter, 1.0), []).append(parameter)
        for factor, parameters in by_factor.items():
            whole = factor == 1.0 and len(by_factor) == 1
            yield group if whole else {**group, "params": parameters, "lr": group["lr"] * factor}
        if not by_factor:
            yield group


def reset_state(optimizer: Any, parameters: Iterable[Any]) -> None:
    """Drop the optimizer's state of some parameters; their momentum restarts with their next gradient."""
    for parameter in parameters:
        optimizer.state.pop(parameter, None)
