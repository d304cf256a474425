"""GradientMonitor: gradient norms before clipping, and layers without gradients or with exploding ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_int, check_number, check_verbose, nearest, quoted
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.per_run import PerRun
from yolo_callbacks.support.secrets import Plain

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session
    from yolo_callbacks.trainer.model.gradient_norms import GradientNorms, NormSummary
    from yolo_callbacks.trainer.model.gradient_watch import GradientWatch

Groups = Union[str, Mapping[str, Union[str, Sequence[str]]], None]

_OWN = ("norm", "norm_max", "clipped", "skipped", "dead_layers", "exploding_layers")
_PARTS, _LAYERS = "parts", "layers"


@dataclass
class _Live:
    watch: GradientWatch
    samples: GradientNorms
    logged: set[str] = field(default_factory=set)


class GradientMonitor(PerRun[_Live], Callback):
    """Measure the norm of the gradients before they are clipped, whole and by groups, and find layers that get none.

    No event of Ultralytics sees gradients: they exist only between backward and the optimizer's step. This callback
    measures them there, in the first optimizer step of every epoch and every Nth step after it. Results stay
    bit-identical. An error is logged once and ends the measurement; training continues. It measures on rank 0, where
    gradients are already reduced over the ranks.

    Norms are L2 norms of the gradients accumulated for the step, without the loss scale of automatic mixed precision
    (AMP). Steps that AMP skips do not count.

    | column | content, over the sampled steps of an epoch |
    |---|---|
    | `gradients/norm` | mean of the norm of all gradients, before clipping |
    | `gradients/norm_max` | maximum of the norm of all gradients, before clipping |
    | `gradients/clipped` | share of steps in [0, 1] whose gradients were clipped (Ultralytics: to a norm of 10) |
    | `gradients/skipped` | number of steps, of all and not only the sampled ones, that AMP skipped |
    | `gradients/backbone`, ... | mean of the norm of each group |
    | `gradients/dead_layers` | number of layers whose gradients were all 0 |
    | `gradients/exploding_layers` | number of layers whose norm was not finite, or exceeded `exploding_factor` |

    `skipped` exists only if AMP scales the loss, which it does not on the CPU or with `amp="bf16"`. A layer is a module
    that directly holds parameters, such as `model.4.cv1.conv`. Frozen layers have no gradient and do not count.

    Args:
        every_n_steps: Measure every Nth step, >= 1. Defaults to 10.
        groups: `"parts"` for `backbone`, `neck` and `head` (for the top-level modules in a model without a YAML of
            Ultralytics); `"layers"` for the top-level layers `model.0`, `model.1`, ...; a dict from names to patterns
            of parameter names, such as `{"box": "model.23.*cv2*"}`; None for no groups. Defaults to `"parts"`.
        exploding_factor: A layer explodes if its norm exceeds its median over the last 100 sampled steps by this
            factor, > 1. The first 10 sampled steps are never reported. Defaults to 100.0.
        verbose: 1 warns of dead and exploding layers when they first appear, 0 does not. Defaults to 1.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or, before the first epoch, if a pattern matches no parameter.

    Example:
        ```python
        ycb.attach(model, [ycb.GradientMonitor(groups={"stem": "model.0.*", "head": "model.23.*"}), ycb.CSVLogger()])
        ```
    """

    priority = Priority.MEASURE
    critical = False

    def __init__(
        self, every_n_steps: int = 10, groups: Groups = _PARTS, exploding_factor: float = 100.0, verbose: int = 1
    ) -> None:
        self.every_n_steps = check_int("every_n_steps", every_n_steps, minimum=1)
        self.groups = _check_groups(groups)
        self.exploding_factor = check_number("exploding_factor", exploding_factor, minimum=1.0, exclusive=True)
        self.verbose = check_verbose(verbose)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the names of the columns."""
        skipped = ("skipped",) if session.run.model.uses_grad_scaler else ()
        groups = _members(self.groups, session)
        names = ("norm", "norm_max", "clipped", *skipped, *groups, "dead_layers", "exploding_layers")
        return tuple(f"gradients/{name}" for name in names)

    def setup(self, session: Session) -> None:
        """Start measuring."""
        from yolo_callbacks.trainer.model.gradient_norms import GradientNorms

        self._live = None
        parameters = tuple(session.run.model.parameter_parts())
        samples = GradientNorms(parameters, _members(self.groups, session))
        watch = session.run.model.watch_gradients(
            type(self).__name__,
            samples.look,
            every_n_steps=self.every_n_steps,
            clipped=samples.look_at_clipped,
            done=samples.keep,
            begin=samples.clear,
        )
        self._live = _Live(watch, samples)

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return the numbers over the epoch's sampled steps; nothing if there were none."""
        live = self._live
        if live is None or not live.watch.active:
            return {}
        measured: dict[str, float] = {}
        with live.watch.guarded():
            if session.run.model.uses_grad_scaler:
                measured["skipped"] = live.watch.skipped_steps()
            summary = live.samples.take(self.exploding_factor)
            if summary is not None:
                measured.update(summary.numbers)
                if self.verbose:
                    self._tell(session.run.epoch, summary, live.logged)
        return {f"gradients/{name}": value for name, value in measured.items()}

    def close(self, session: Session, error: BaseException | None) -> None:
        """Stop measuring."""
        live, self._live = self._live, None
        if live is not None:
            live.watch.remove()

    def _tell(self, epoch: int, summary: NormSummary, logged: set[str]) -> None:
        said = {f"no gradient in any of {summary.steps} sampled steps": summary.dead, "exploding": summary.exploding}
        for what, layers in said.items():
            new = [layer for layer in layers if f"{what[:2]}{layer}" not in logged]
            logged.update(f"{what[:2]}{layer}" for layer in new)
            if new:
                more = f" and {len(new) - 3} more" if len(new) > 3 else ""
                LOGGER.warning(f"{type(self).__name__}: epoch {epoch}: {what}: {', '.join(new[:3])}{more}")


def _check_groups(groups: Any) -> Groups:
    if groups is None or (isinstance(groups, str) and groups in (_PARTS, _LAYERS)):
        return groups
    if not isinstance(groups, Mapping):
        hint = nearest(groups, (_PARTS, _LAYERS)) if isinstance(groups, str) else ""
        raise ValueError(
            f"groups={quoted(groups)} must be '{_PARTS}', '{_LAYERS}', a dict from names to patterns, or None{hint}"
        )
    for name, patterns in groups.items():
        if not isinstance(name, str) or not name or name in _OWN:
            raise ValueError(
                f"groups has the name {quoted(name)}: it must be a string, and not one of {', '.join(_OWN)}"
            )
        if not _listed(patterns) or not all(isinstance(pattern, str) for pattern in _listed(patterns)):
            raise TypeError(
                f"groups[{quoted(name)}]={quoted(patterns)} must be a pattern such as 'model.0.*', or a list of them"
            )
    return {name: Plain.of(patterns) for name, patterns in groups.items()}  # else run.json may hide one


def _listed(patterns: Any) -> list[Any]:
    return list(patterns) if isinstance(patterns, (list, tuple)) else [patterns]


def _members(groups: Groups, session: Session) -> dict[str, list[str]]:
    """Return the parameters of each group.

    Raises:
        ValueError: If a pattern matches no parameter.
    """
    trained = session.run.model.trainable_parameters()
    members: dict[str, list[str]] = {}
    if isinstance(groups, str):
        part_of = session.run.model.parameter_parts() if groups == _PARTS else {name: _block(name) for name in trained}
        for name in trained:
            members.setdefault(part_of[name], []).append(name)
        return {f"{name} (module)" if name in _OWN else name: found for name, found in members.items()}
    for group, patterns in (groups or {}).items():
        members[group] = []
        for pattern in _listed(patterns):
            found = [name for name in trained if fnmatchcase(name, pattern)]
            if not found:
                raise ValueError(
                    f"GradientMonitor: {pattern!r} matches no trained parameter{nearest(pattern, trained)}; "
                    f"these are {', '.join(trained[:3])}, ..."
                )
            members[group] += found
    return members


def _block(parameter: str) -> str:
    """Return the top-level layer: everything up to the first number, or the first name if there is no number."""
    words = parameter.split(".")
    number = next((i for i, word in enumerate(words) if word.isdigit()), 0)
    return ".".join(words[: number + 1])
