"""PlatformLogger: numbers of your own on the Ultralytics Platform, and wherever else Ultralytics reports to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.metrics import MetricView, UnknownMetricError, check_known
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.metric_names import fit_names, is_reserved
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import Plain

if TYPE_CHECKING:
    from yolo_callbacks.core.entry import Entry
    from yolo_callbacks.session.session import Session

Number = Union[str, Callable[[Mapping[str, float]], float]]
"""The name of a number, or a function of the epoch's numbers."""

_OWN_MEASURES = ("lr_factor", "seconds", "images_per_second")


class PlatformLogger(Callback):
    """Make numbers of your own part of what Ultralytics sends to its Platform after each epoch.

    They are added to the trainer's metrics while Ultralytics' integrations read them, so every other one that is
    switched on sends them as well: Weights & Biases, MLflow, TensorBoard, Comet, ClearML, DVC, Ray Tune. Then they are
    taken out again: `results.csv` and the checkpoints are those of a run without this callback. Nothing is sent by this
    callback itself; the Platform needs `ULTRALYTICS_API_KEY` (or `yolo login`), `project=` and Python >= 3.11.

    What goes under a name is a number of the epoch: a metric by its key or its short name (`recall`, `val_loss`),
    `lr_factor`, `seconds`, `images_per_second`, `rss_gb`, `gpu_gb`, what other callbacks measure
    (`mAP50-95/person`, `gradients/norm`) or count (`EarlyStopping/wait`), or what a function makes of all these. A
    function is called on the training thread after each epoch and should be quick. If it raises, or returns no number,
    that is logged once and its number is left out of the epoch, as is one that was not measured.

    Names are changed to suit all receivers: `custom/mAP50-95_traffic_light`. A name that the trainer's metrics have
    already is never overwritten. A function that you have registered before attaching is called before the numbers
    are there.

    Whether it is in the list or not, an attached run guards the Platform integration: an answer that is not as expected
    (which otherwise raises out of `train()`, after the last epoch too) is logged once; the wait for the run's
    registration ends after 20 s, and the run then is not tracked; the upload at the end goes on in the background after
    60 s; a cancel from the Platform is `StopReason.CANCELLED`, in the journal too, and on several GPUs ends the epoch
    on all of them; the API key is kept out of the log. What stays as it is in Ultralytics: a live server is waited for
    at the start; a process that has trained waits, before it ends, for what is still on its way, ten requests at a time
    of up to 30 s each, and for the upload; and each epoch takes a measurement of the machine's load.

    Args:
        metrics: What to send: a list of names, or a mapping from the name that it is sent under to the name of a number
            or to a function of the epoch's numbers (a mapping in which short names work). None sends `lr_factor`,
            `seconds`, `images_per_second`, and all that other callbacks measure and count. Defaults to None.
        prefix: What the names begin with. Defaults to `"custom/"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a list holds a name twice, or nothing is to be sent.
        UnknownMetricError: Before the first epoch, if the run has no such number, or a name is taken by the trainer.

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
            raise TypeError(f"prefix={prefix!r} must be a string such as 'custom/', not {type(prefix).__name__}")
        self.prefix = prefix
        self._numbers: dict[str, Number] = {}
        self._told: set[str] = set()

    def setup(self, session: Session) -> None:
        """Find out what to send under which names, and who takes it."""
        self._told = set()
        chosen = self._chosen(session)
        self._numbers = dict(zip(fit_names(chosen, self.prefix), chosen.values()))
        self._check_names(session)
        if model := session.run.platform_model:
            session.files.remember("Platform", **model)
        if not session.run.integrations:
            LOGGER.warning(
                "PlatformLogger: nobody takes its numbers, for the Ultralytics Platform set ULTRALYTICS_API_KEY and "
                "project=, for others switch them on with 'yolo settings'"
            )

    def act(self, session: Session) -> None:
        """Add the epoch's numbers to what is sent."""
        entry = session.entries[-1]
        view = _view(entry)
        values = {}
        for name, number in self._numbers.items():
            value = self._value(name, number, view, entry.record)
            if value is not None:
                values[name] = value
        for name in session.run.publish(values):
            self._tell(name, ValueError("the trainer's metrics have that name already"))

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
                    f"PlatformLogger: '{name}' is sent by Ultralytics itself, choose another name or a prefix"
                )
            if isinstance(number, str):
                try:
                    check_known(number, known, losses_known, session.run.measures_more)
                except UnknownMetricError as error:
                    raise UnknownMetricError(f"PlatformLogger: {error}") from None

    def _value(self, name: str, number: Number, view: MetricView, record: EpochRecord) -> float | None:
        """Return the number of this epoch, None if there is none."""
        if isinstance(number, str):
            value: float | None = view.get(number)
            return value
        try:
            return float(number(view))
        except UnknownMetricError as error:
            if record.validated:  # without validation there are no metrics to make something of
                self._tell(name, error)
        except Exception as error:
            self._tell(name, error)
        return None

    def _tell(self, name: str, error: Exception) -> None:
        tell_once(self._told, f"PlatformLogger: '{name}'", error)


def _view(entry: Entry) -> MetricView:
    """Return all numbers of an epoch, under their short names too."""
    return MetricView(EpochRecord(entry.record.epoch, entry.numbers))


def _check_metrics(metrics: Any) -> list[str] | dict[str, Number] | None:
    if metrics is None:
        return None
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics={metrics!r} must be a list of names, or a mapping from names to names or functions")
    chosen = dict(metrics) if isinstance(metrics, Mapping) else list(metrics)
    if not chosen:
        raise ValueError(f"metrics={metrics!r} must name at least one number; None stands for the usual ones")
    for name in chosen:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"metrics={metrics!r} must have strings for names, not {name!r}")
    if isinstance(chosen, list):
        twice = [name for name in chosen if chosen.count(name) > 1]
        if twice:
            raise ValueError(f"metrics={metrics!r} has '{twice[0]}' twice")
        return chosen
    for name, number in chosen.items():
        if not isinstance(number, str) and not callable(number):
            raise TypeError(
                f"metrics['{name}']={number!r} must be the name of a number or a function of the epoch's numbers"
            )
    return {name: Plain.of(number) for name, number in chosen.items()}  # else run.json may hide one
