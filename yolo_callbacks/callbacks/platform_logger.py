"""PlatformLogger: your own numbers on the Ultralytics Platform, and wherever else Ultralytics reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.metrics import MetricView, UnknownMetricError, check_known
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.metric_names import fit_names, is_reserved
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.checks import items_of, quoted
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import Plain

if TYPE_CHECKING:
    from yolo_callbacks.core.entry import Entry
    from yolo_callbacks.session.session import Session

Number = Union[str, Callable[[Mapping[str, float]], float]]
"""The name of a number, or a function of the epoch's numbers."""

_OWN_MEASURES = ("lr_factor", "seconds", "images_per_second")


class PlatformLogger(Callback):
    """Add your own numbers to those that Ultralytics sends to its Platform after each epoch.

    The numbers are in the trainer's metrics while Ultralytics' integrations read them, so every integration that is on
    sends them: the Platform, Weights & Biases, MLflow, TensorBoard, Comet, ClearML, DVC, Ray Tune. Then they are
    removed again, so `results.csv` and the checkpoints are those of a run without this callback. The callback itself
    sends nothing; the Platform needs `ULTRALYTICS_API_KEY` (or `yolo login`), `project=` and Python >= 3.11.

    A number is a metric by its key or short name (`recall`, `val_loss`), `lr_factor`, `seconds`, `images_per_second`,
    `rss_gb`, `gpu_gb`, a measurement of another callback (`mAP50-95/person`, `gradients/norm`), a counter
    (`EarlyStopping/wait`), or a function of all these. A function is called on the training thread after each epoch
    and should be quick. If it raises or does not return a number, the error is logged once and the epoch goes without
    this number, as with one that was not measured.

    Names are changed to suit all receivers: `custom/mAP50-95_traffic_light`. The trainer's own metrics are never
    overwritten. A function that you register before attaching is called before the numbers are added.

    Every attached run guards the Platform integration, with or without this callback:

    - An unexpected answer is logged once. Otherwise it raises out of `train()`, even after the last epoch.
    - The run's registration may take 20 s; after that the run is not tracked.
    - The final upload may take 60 s; after that it continues in the background.
    - A cancellation on the Platform is recorded as `StopReason.CANCELLED`, and ends the epoch on all GPUs.
    - The API key does not appear in the log.

    Ultralytics itself still waits for a live server at the start; waits before the process exits for pending requests
    (ten at a time, up to 30 s each) and for the upload; and measures the machine's load in each epoch.

    Args:
        metrics: The numbers to send: a list of names, or a mapping from the name to send to the name of a number or a
            function. The function gets a mapping of the epoch's numbers by their keys or short names. None sends
            `lr_factor`, `seconds`, `images_per_second`, and everything that other callbacks measure and count.
            Defaults to None.
        prefix: Prefix of the names. Defaults to `"custom/"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `metrics` is empty or has a name twice.
        UnknownMetricError: Before the first epoch, if the run has no such number, or the trainer uses a name.

    Example:
        ```python
        def f2(numbers):
            precision, recall = numbers["precision"], numbers["recall"]
            return 5 * precision * recall / (4 * precision + recall + 1e-9)

        ycb.attach(model, [
            ycb.EarlyStopping(patience=20),
            ycb.PlatformLogger({"F2": f2, "patience": "EarlyStopping/wait", "lr factor": "lr_factor"}),
        ])
        model.train(data="coco8.yaml", project="my-project", epochs=100)
        ```
    """

    priority = Priority.REPORT

    def __init__(self, metrics: Iterable[str] | Mapping[str, Number] | None = None, prefix: str = "custom/") -> None:
        self.metrics = _check_metrics(metrics)
        if not isinstance(prefix, str):
            raise TypeError(f"prefix={quoted(prefix)} must be a string such as 'custom/', not {type(prefix).__name__}")
        self.prefix = prefix
        self._numbers: dict[str, Number] = {}
        self._logged: set[str] = set()

    def setup(self, session: Session) -> None:
        """Choose the numbers and their names, and warn if no integration is on."""
        self._logged = set()
        chosen = self._chosen(session)
        self._numbers = dict(zip(fit_names(chosen, self.prefix), chosen.values()))
        self._check_names(session)
        if model := session.run.platform_model:
            session.files.remember("Platform", **model)
        if not session.run.integrations:
            LOGGER.warning(
                "PlatformLogger sends nothing, because no integration is on: for the Ultralytics Platform, set "
                "ULTRALYTICS_API_KEY and project=; for others, use 'yolo settings'"
            )

    def act(self, session: Session) -> None:
        """Publish the epoch's numbers."""
        entry = session.entries[-1]
        view = _view(entry)
        values = {}
        for name, number in self._numbers.items():
            value = self._value(name, number, view, entry.record)
            if value is not None:
                values[name] = value
        for name in session.run.publish(values):
            self._log_once(name, ValueError("the trainer's metrics already have that name"))

    def _chosen(self, session: Session) -> dict[str, Number]:
        if isinstance(self.metrics, Mapping):
            return dict(self.metrics)
        if self.metrics is not None:
            return {name: name for name in self.metrics}
        known = dict.fromkeys(session.number_names)
        counted = [name for name in known if name.partition("/")[0] in session.callbacks]
        wanted = (*_OWN_MEASURES, *session.measured_names, *counted)
        return {name: name for name in wanted if name in known}

    def _check_names(self, session: Session) -> None:
        trainers, losses_known = session.run.metric_names()
        known, taken = session.number_names, {name.lower() for name in (*trainers, *fit_names(trainers))}
        for name, number in self._numbers.items():
            if name.lower() in taken or is_reserved(name):
                raise UnknownMetricError(
                    f"PlatformLogger: Ultralytics itself sends '{name}': choose another name or prefix"
                )
            if isinstance(number, str):
                try:
                    check_known(number, known, losses_known, session.run.measures_more)
                except UnknownMetricError as error:
                    raise UnknownMetricError(f"PlatformLogger: {error}") from None

    def _value(self, name: str, number: Number, view: MetricView, record: EpochRecord) -> float | None:
        """Return the number of this epoch; None if there is none."""
        if isinstance(number, str):
            value: float | None = view.get(number)
            return value
        try:
            return float(number(view))
        except UnknownMetricError as error:
            if record.validated:  # without validation, missing metrics are no mistake
                self._log_once(name, error)
        except Exception as error:
            self._log_once(name, error)
        return None

    def _log_once(self, name: str, error: Exception) -> None:
        tell_once(self._logged, f"PlatformLogger: '{name}'", error)


def _view(entry: Entry) -> MetricView:
    """Return all numbers of an epoch, also by their short names."""
    return MetricView(EpochRecord(entry.record.epoch, entry.numbers))


def _check_metrics(metrics: Any) -> list[str] | dict[str, Number] | None:
    if metrics is None:
        return None
    items = None if isinstance(metrics, str) else items_of(metrics)
    if items is None:
        raise TypeError(
            f"metrics={quoted(metrics)} must be a list of names, or a mapping from names to names or functions"
        )
    chosen = dict(metrics) if isinstance(metrics, Mapping) else items
    if not chosen:
        raise ValueError(f"metrics={quoted(metrics)} must have at least one number; None sends the default ones")
    for name in chosen:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"metrics={quoted(metrics)} must have strings as names, not {quoted(name)}")
    if isinstance(chosen, list):
        twice = [name for name in chosen if chosen.count(name) > 1]
        if twice:
            raise ValueError(f"metrics={quoted(metrics)} has {quoted(twice[0])} twice")
        return chosen
    for name, number in chosen.items():
        if not isinstance(number, str) and not callable(number):
            raise TypeError(
                f"metrics[{quoted(name)}]={quoted(number)} must be the name of a number or a function of the "
                f"epoch's numbers"
            )
    return {name: Plain.of(number) for name, number in chosen.items()}  # else run.json may hide one
