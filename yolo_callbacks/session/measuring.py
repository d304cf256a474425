"""Measuring: what the trainer and the callbacks know about an epoch, as one record. Rank 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic

from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.lineup import check_metrics
from yolo_callbacks.core.metrics import is_of_classes
from yolo_callbacks.core.record import EpochRecord, History
from yolo_callbacks.session.participant import Participant, S
from yolo_callbacks.session.steps import Steps
from yolo_callbacks.support.checks import as_number
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.run import Run


class Measuring(Generic[S]):
    """Measures each epoch once.

    Args:
        run: The run.
        steps: The callbacks and their steps.
    """

    def __init__(self, run: Run, steps: Steps[S]) -> None:
        self._run = run
        self._steps = steps
        self._measured: tuple[int, Mapping[str, float]] = (0, {})
        self._missing: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is measured besides the trainer's metrics, in order. Available once the model is built."""
        callbacks = self._steps.callbacks.values()
        names = (name for callback in callbacks for name in callback.measures(self._steps.session))
        return tuple(dict.fromkeys([*names, *self._class_metrics]))

    def number_names(self, history: History) -> tuple[str, ...]:
        """Return the names of an epoch's numbers that are known before the first epoch; see `Entry.numbers`."""
        counters = (
            f"{label}/{key}" for label, callback in self._steps.callbacks.items() for key in callback.counters(history)
        )
        names = (*self._run.metric_names()[0], *self.names, "lr_factor", *self._run.measure_names(), *counters)
        return tuple(dict.fromkeys(names))

    def check(self) -> None:
        """Make sure that the run has every metric that a callback needs.

        Raises:
            UnknownMetricError: If it lacks one.
        """
        metrics, losses_known = self._run.metric_names()
        known = {**metrics, **dict.fromkeys(self.names, 0.0)}
        check_metrics(
            self._steps.callbacks,
            known,
            losses_known,
            lambda name: self._run.classes.problem(name, known) if is_of_classes(name) else None,
            measures_more=self._run.measures_more,
        )

    def record(self, learning_rate: LearningRateState, *, complete: bool = True) -> EpochRecord:
        """Build the record of the epoch that has just been validated."""
        if self._measured[0] != self._run.epoch:
            measured = self._by_callbacks("measure", lambda callback: callback.measure(self._steps.session))
            self._measured = self._run.epoch, {**measured, **self._of_classes()}
        late: Mapping[str, float] = {}
        if complete:
            late = self._by_callbacks(
                "measure_after_save", lambda callback: callback.measure_after_save(self._steps.session)
            )
        return self._run.record(learning_rate, {**self._measured[1], **late}, complete=complete)

    def _by_callbacks(self, step: str, measure: Callable[[Participant[S]], Mapping[str, float]]) -> Mapping[str, float]:
        """Return what the callbacks measure in a step."""
        numbers: dict[str, float] = {}
        for name, callback in self._steps.callbacks.items():
            try:
                measured = measure(callback).items()
                numbers |= {key: float(as_number(f"{name}.{step}()[{key!r}]", value)) for key, value in measured}
            except Exception as error:
                self._steps.failed(name, step, error)
        return numbers

    @property
    def _class_metrics(self) -> Iterable[str]:
        """The per-class metrics that callbacks need, measured even if no callback lists them."""
        names = (name for callback in self._steps.callbacks.values() for name in callback.needs())
        asked = [name for name in names if is_of_classes(name)]
        return self._run.classes.keys(asked) if asked else ()

    def _of_classes(self) -> Mapping[str, float]:
        """Return the per-class metrics that callbacks need."""
        keys = tuple(self._class_metrics)
        results = self._run.class_results() if keys else None
        if results is None:
            return {}
        numbers = results.numbers(keys)
        missing = ", ".join([key for key in keys if key not in numbers][:8])
        if missing and missing not in self._missing:
            self._missing.add(missing)
            LOGGER.warning(f"{missing} cannot be measured: no such class occurs in the validation set")
        return numbers
