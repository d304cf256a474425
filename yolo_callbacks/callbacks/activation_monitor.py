"""ActivationMonitor: statistics of the outputs of chosen layers during training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_int, check_number, check_verbose, quoted
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import plain
from yolo_callbacks.support.per_run import PerRun

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session
    from yolo_callbacks.trainer.model.activation_watch import ActivationWatch
    from yolo_callbacks.trainer.model.output_numbers import OutputNumbers

Layers = Union[Sequence[Union[str, int]], str, int, None]

_STATISTICS = ("mean", "std", "zero_share", "dead_channels", "non_finite")


@dataclass
class _Live:
    watch: ActivationWatch
    outputs: OutputNumbers
    logged: set[str] = field(default_factory=set)


class ActivationMonitor(PerRun[_Live], Callback):
    """Measure the outputs of chosen layers during training: mean, spread, zeros, dead channels, non-finite values.

    It uses PyTorch's forward hooks, which no event of Ultralytics can replace, in the first batch of every epoch and
    every Nth batch after it. The hooks are on the model only during such a batch, so they never reach a copy or a
    checkpoint. Validation runs another copy of the weights and is not measured. Results stay bit-identical. An error
    in a hook is logged once and ends the measurement; training continues.

    | column | content, over the sampled batches of an epoch |
    |---|---|
    | `activations/<layer>/mean`, `.../std` | mean and standard deviation of all finite values |
    | `activations/<layer>/zero_share` | share of values in [0, 1] whose absolute value is below `zero_below` |
    | `activations/<layer>/dead_channels` | number of channels in which all values count as 0 |
    | `activations/<layer>/non_finite` | number of values that were NaN or infinite |

    A layer with several output tensors gets one set of numbers for all of them, and no dead channels. With several
    ranks, only the images of rank 0 count. With `compile=True` nothing is measured, and a warning says so, because
    PyTorch does not guarantee that hooks of a compiled model are called.

    Args:
        layers: Names (`"model.4"`), patterns (`"model.2.m.*"`) or indices of top-level layers (`4`, `-2`), one or a
            list, at most 64 layers in all; None for the layers that feed the head. Defaults to None.
        every_n_batches: Measure every Nth batch, >= 1. Defaults to 10.
        zero_below: Absolute value below which a value counts as 0, >= 0. YOLO's SiLU, unlike ReLU, gives no exact
            zeros. Defaults to 0.001.
        verbose: 1 warns once of each layer with NaN or infinity in its output, 0 does not. Defaults to 1.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or, before the first epoch, if the model has no such layer.

    Example:
        ```python
        ycb.attach(model, [ycb.ActivationMonitor(layers=["model.4", "model.2.m.*.cv1", -2]), ycb.CSVLogger()])
        ```
    """

    priority = Priority.MEASURE
    critical = False

    def __init__(
        self, layers: Layers = None, every_n_batches: int = 10, zero_below: float = 0.001, verbose: int = 1
    ) -> None:
        self.layers = _check_layers(layers)
        self.every_n_batches = check_int("every_n_batches", every_n_batches, minimum=1)
        self.zero_below = check_number("zero_below", zero_below, minimum=0.0)
        self.verbose = check_verbose(verbose)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the names of the columns."""
        if session.run.model.is_compiled:
            return ()
        return tuple(f"activations/{layer}/{name}" for layer in self._chosen(session) for name in _STATISTICS)

    def setup(self, session: Session) -> None:
        """Start measuring."""
        from yolo_callbacks.trainer.model.output_numbers import OutputNumbers

        self._live = None
        if session.run.model.is_compiled:
            LOGGER.warning(
                f"{type(self).__name__} measures nothing: hooks of a compiled model are unreliable; train with "
                "compile=False to measure"
            )
            return
        outputs = OutputNumbers(self.zero_below)
        watch = session.run.model.watch_activations(
            type(self).__name__,
            self._chosen(session),
            outputs.look,
            every_n_batches=self.every_n_batches,
            begin=outputs.clear,
        )
        self._live = _Live(watch, outputs)

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return the statistics over the epoch's sampled batches."""
        live = self._live
        if live is None or not live.watch.active:
            return {}
        found: dict[str, dict[str, float]] = {}
        with live.watch.guarded():
            found = live.outputs.take()
            bad = [layer for layer, numbers in found.items() if numbers["non_finite"] and layer not in live.logged]
            live.logged.update(bad)
            if bad and self.verbose:
                more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
                LOGGER.warning(
                    f"{type(self).__name__}: epoch {session.run.epoch}: NaN or infinity in the output of "
                    f"{', '.join(bad[:3])}{more}"
                )
        return {
            f"activations/{layer}/{name}": value for layer, numbers in found.items() for name, value in numbers.items()
        }

    def close(self, session: Session, error: BaseException | None) -> None:
        """Stop measuring."""
        live, self._live = self._live, None
        if live is not None:
            live.watch.remove()

    def _chosen(self, session: Session) -> tuple[str, ...]:
        wanted = [self.layers] if isinstance(self.layers, (str, int)) else self.layers
        try:
            return session.run.model.find_layers(wanted)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None


def _check_layers(layers: Any) -> Layers:
    layers = type(layers)(map(plain, layers)) if isinstance(layers, (list, tuple)) else plain(layers)
    items = [layers] if isinstance(layers, (str, int)) else layers
    if layers is not None and (not isinstance(items, (list, tuple)) or not items):
        raise TypeError(f"layers={quoted(layers)} must be a name, a pattern, a number, a list of them, or None")
    for item in items or ():
        if isinstance(item, bool) or not isinstance(item, (str, int)) or item == "":
            raise TypeError(f"layers={quoted(layers)} has {quoted(item)}: expected a name, a pattern or a number")
    return layers  # type: ignore[no-any-return]
