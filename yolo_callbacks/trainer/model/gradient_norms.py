"""Gradient norms over the sampled steps of an epoch: in total, by group and by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from yolo_callbacks.trainer.model.gradient_watch import OptimizerStep

_KEPT_ON_DEVICE = 256  # sampled steps after which the numbers are fetched within an epoch
_WINDOW, _ENOUGH = 100, 10  # sampled steps for a layer's usual norm: the most, and the fewest
_ROUNDING = 1e-5  # relative; without clipping, the norms before and after it differ by less


class NormSummary:
    """Results of the sampled steps of one epoch."""

    def __init__(self, numbers: dict[str, float], steps: int, dead: list[str], exploding: list[str]) -> None:
        self.numbers, self.steps, self.dead, self.exploding = numbers, steps, dead, exploding


class GradientNorms:
    """Gradient norms of the sampled steps of an epoch, kept on the device until needed, so that nothing waits for it.

    Args:
        parameters: Names of all parameters.
        groups: Names of the parameters in each group.
    """

    def __init__(self, parameters: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
        self._column = {name: column for column, name in enumerate(parameters)}
        self._layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in parameters))
        number = {layer: i for i, layer in enumerate(self._layers)}
        self._layer_of = np.array([number[name.rpartition(".")[0] or name] for name in parameters], dtype=np.intp)
        self._groups = {group: [self._column[name] for name in names] for group, names in groups.items()}
        self._usual = np.empty((0, len(self._layers)))
        self.clear()

    def clear(self) -> None:
        """Reset the epoch; keep each layer's usual norms."""
        self._rows: list[tuple[tuple[str, ...], bool, Any]] = []
        self._looked: tuple[tuple[str, ...], Any, Any] | None = None
        self._after: Any = None
        self._steps = self._clipped = 0
        self._sum = self._max = 0.0
        self._group_sums = dict.fromkeys(self._groups, 0.0)
        self._seen = np.zeros(len(self._layers), dtype=bool)
        self._alive = np.zeros(len(self._layers), dtype=bool)
        self._largest = np.zeros(len(self._layers))

    # ---------------------------------------------------------------- while training

    def look(self, step: OptimizerStep) -> None:
        """Keep the norms of a step's gradients."""
        self._after = None
        self._looked = (tuple(step.gradients), _norms(step.gradients), step.scale) if step.gradients else None

    def look_at_clipped(self, step: OptimizerStep) -> None:
        """Keep the norm of the gradients that the optimizer gets."""
        self._after = _norms(step.gradients).norm() if step.gradients else None

    def keep(self, stepped: bool, skipped: Any) -> None:
        """Store the numbers of a finished step."""
        if self._looked is None:
            return
        import torch

        names, norms, scale = self._looked
        facts = [
            scale,
            torch.full_like(scale, torch.nan) if self._after is None else self._after,
            torch.zeros_like(scale) if skipped is None else skipped.to(scale.dtype),
        ]
        self._rows.append((names, stepped, torch.cat([torch.stack(facts), norms])))
        self._looked = None
        if len(self._rows) >= _KEPT_ON_DEVICE:
            self._fetch()

    # ---------------------------------------------------------------- at the end of an epoch

    def take(self, exploding_factor: float) -> NormSummary | None:
        """Return the results since the epoch began (None if there was no step), and reset."""
        self._fetch()
        steps = self._steps
        summary = None
        if steps:
            dead = self._seen & ~self._alive
            exploding = ~np.isfinite(self._largest)
            if len(self._usual) >= _ENOUGH:
                exploding |= self._largest > exploding_factor * _median(self._usual)
            numbers = {
                "norm": self._sum / steps,
                "norm_max": self._max,
                "clipped": self._clipped / steps,
                **{group: total / steps for group, total in self._group_sums.items()},
                "dead_layers": float(dead.sum()),
                "exploding_layers": float(exploding.sum()),
            }
            summary = NormSummary(numbers, steps, self._names(dead), self._names(exploding))
        self.clear()
        return summary

    def _names(self, chosen: Any) -> list[str]:
        return [self._layers[i] for i in np.flatnonzero(chosen)]

    def _fetch(self) -> None:
        """Fetch the norms from the device in one transfer, and add them up."""
        import torch

        rows, self._rows = self._rows, []
        if not rows:
            return
        numbers = torch.cat([row for _, _, row in rows]).double().cpu().numpy()
        end = 0
        for names, stepped, row in rows:
            begin, end = end, end + len(row)
            scale, after, skipped = numbers[begin : begin + 3]
            if stepped and not skipped:
                columns = [self._column[name] for name in names]
                self._add(columns, numbers[begin + 3 : end] / scale, after)

    def _add(self, columns: list[int], norms: Any, after: float) -> None:
        squares = np.zeros(len(self._column))
        squares[columns] = norms**2
        layers = np.sqrt(np.bincount(self._layer_of, weights=squares, minlength=len(self._layers)))
        total = float(np.sqrt(squares.sum()))
        self._steps += 1
        self._sum += total
        self._max = float(np.maximum(self._max, total))  # keeps NaN
        self._clipped += bool(after < total * (1 - _ROUNDING))
        for group, members in self._groups.items():
            self._group_sums[group] += float(np.sqrt(squares[members].sum()))
        seen = self._layer_of[columns]
        self._seen[seen] = True
        self._alive |= layers != 0
        self._largest = np.maximum(self._largest, layers)  # keeps NaN
        known = np.full((1, len(self._layers)), np.nan)
        known[0, seen] = layers[seen]
        self._usual = np.concatenate([self._usual, known])[-_WINDOW:]


def _median(rows: Any) -> Any:
    """Return the median of each column's finite values; infinity where there are too few."""
    finite = np.where(np.isfinite(rows), rows, np.nan)
    enough = np.isfinite(rows).sum(axis=0) >= _ENOUGH
    medians = np.full(rows.shape[1], np.inf)
    medians[enough] = np.nanmedian(finite[:, enough], axis=0)
    medians[medians == 0] = np.inf  # mostly dead: any gradient would be far above 0
    return medians


def _norms(gradients: Mapping[str, Any]) -> Any:
    """Return the norm of each gradient, as one tensor on their device."""
    import torch

    tensors = list(gradients.values())
    with torch.no_grad():
        # as in torch's own clipping: hundreds of tensors in a few kernels; other devices may lack it
        many = tensors[0].device.type in ("cpu", "cuda") and hasattr(torch, "_foreach_norm")
        norms = torch._foreach_norm(tensors, 2) if many else [torch.linalg.vector_norm(one) for one in tensors]
        return torch.stack([norm if norm.dtype is torch.float32 else norm.float() for norm in norms])
