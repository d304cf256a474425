"""PerClassMetrics: the metrics of each class in every epoch, as columns, a table and a heat map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.metrics import CLASS_METRICS, CLASS_SUMMARIES, UnknownMetricError, class_metric
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.pictures.drawing import Drawing
from yolo_callbacks.run_dir.class_log import ClassLog
from yolo_callbacks.support.checks import check_choice, check_file_name, check_int, check_names, check_number, quoted

if TYPE_CHECKING:
    from yolo_callbacks.core.classes import Classes
    from yolo_callbacks.session.session import Session

_MOST_NAMED = 100  # classes that a picture shows by request; of more it chooses itself


class PerClassMetrics(Callback):
    """Measure each class in every validated epoch.

    | file | content |
    |---|---|
    | `callbacks/classes.csv` | every class and metric, one row per epoch and class |
    | `callbacks/classes.png` | a heat map, classes by epochs; of more than 100 classes the best and the worst 20 |
    | `callbacks/epochs.csv` | a column per class and metric, up to `max_columns`, and the summaries |

    | column and monitor | content |
    |---|---|
    | `mAP50-95/person`, `mAP50/...`, `precision/...`, `recall/...` | one class, in tasks that predict boxes |
    | `mAP50-95(M)/person`, `mAP50-95(B)/person` | masks (`(P)`: keypoints) and boxes, in tasks that have both |
    | `mIoU/sky`, `pixel_acc/sky` | one class, in semantic segmentation |
    | `top1/cat`, `top5/cat` | classification: share of the images of this class that are classified correctly |
    | `worst_class` | the lowest mAP50-95 (mIoU, top1) of all classes in the validation set |
    | `classes/p10`, `classes/median` | the 10th percentile and the median of the same |
    | `classes/at_zero` | number of classes at 0 |

    A class that does not occur in the validation set has empty cells and does not count in the summaries; a callback
    that monitors it fails before the first epoch. Numbers are rounded to 5 decimals, as Ultralytics rounds its own. If
    classes share a name, their index is added, as in `car#7`.

    Other callbacks can monitor a class or `worst_class` by name without this one:
    `EarlyStopping(monitor="mAP50-95/person")`. A *function* as monitor only sees numbers that are measured anyway, so
    it needs this callback with its classes: `PerClassMetrics(classes=["person"])`.

    Args:
        classes: The classes that get columns, however many: a name, or a list of names and patterns such as
            `"*_sign"`. The heat map shows these (up to 100). None for all classes, up to `max_columns`. Defaults to
            None.
        metrics: The metrics that get columns: a list such as `["mAP50-95", "recall"]`. None for all metrics of the
            task. Defaults to None.
        max_columns: With `classes=None`, the maximum number of columns, >= 0. If all metrics of all classes are more,
            only the main metric gets columns; if these are still more, only the summaries do. `classes.csv` always has
            everything. Defaults to 200.
        filename: Name of the table in the run's `callbacks` folder, ending in `.csv`. Defaults to `"classes.csv"`.
        heatmap: Name of the heat map, ending in `.png`; None for none. Defaults to `"classes.png"`.
        refresh_seconds: Minimum seconds between two pictures, >= 0. Defaults to 30.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or a metric does not exist.
        UnknownMetricError: Before the first epoch, if the run has no such class or metric, or no classes at all.

    Example:
        ```python
        ycb.attach(model, [ycb.PerClassMetrics(), ycb.ModelCheckpoint(monitor="worst_class"), ycb.CSVLogger()])
        ```
    """

    priority = Priority.REPORT

    def __init__(
        self,
        classes: Union[str, Iterable[str], None] = None,
        metrics: Union[str, Iterable[str], None] = None,
        *,
        max_columns: int = 200,
        filename: str = "classes.csv",
        heatmap: str | None = "classes.png",
        refresh_seconds: float = 30.0,
    ) -> None:
        self.classes = _names("classes", classes, "'person' or '*_sign'")
        self.metrics = _names("metrics", metrics, "'mAP50-95'")
        for name in self.metrics or ():
            if class_metric(f"{name}/a class") is None:
                check_choice("metrics", name, CLASS_METRICS)
        self.max_columns = check_int("max_columns", max_columns, minimum=0)
        self.filename = check_file_name("filename", filename, suffix=".csv")
        self.heatmap = None if heatmap is None else check_file_name("heatmap", heatmap, suffix=".png")
        self.refresh_seconds = check_number("refresh_seconds", refresh_seconds, minimum=0.0)
        self._drawing = Drawing("pictures.heatmap", self.refresh_seconds)
        self._log: ClassLog | None = None
        self._epoch = 0

    def outputs(self) -> Iterable[str]:
        """Return the table and the picture."""
        return tuple(f"callbacks/{name}" for name in (self.filename, self.heatmap) if name is not None)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the names of the columns.

        Raises:
            UnknownMetricError: If the run has no such class or metric, or no classes at all.
        """
        classes = session.run.classes
        try:
            return (*CLASS_SUMMARIES, *self._columns(classes))
        except UnknownMetricError as error:
            raise UnknownMetricError(f"{type(self).__name__}: {error}") from None

    def _columns(self, classes: Classes) -> list[str]:
        if not classes.metrics:
            raise UnknownMetricError(f"there is nothing to measure by class: {classes.without}")
        metrics = classes.metrics if self.metrics is None else self._chosen_metrics(classes)
        if self.classes is not None:
            names = classes.select(self.classes)
        else:
            names = classes.names
            if len(names) * len(metrics) > self.max_columns:
                metrics = tuple(metric for metric in metrics if metric == classes.main)
            if len(names) * len(metrics) > self.max_columns:
                return []
        return [f"{metric}/{name}" for metric in metrics for name in names]

    def _chosen_metrics(self, classes: Classes) -> tuple[str, ...]:
        chosen: list[str] = []
        for name in self.metrics or ():
            keys = classes.keys([f"{name}/{classes.names[0]}"])
            if not keys:
                raise UnknownMetricError(f"this run has no {name} per class; it has {', '.join(classes.metrics)}")
            chosen += [key.partition("/")[0] for key in keys]
        return tuple(dict.fromkeys(chosen))

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return the numbers of the columns, and add all classes and metrics to the table."""
        results = session.run.class_results()
        if results is None:
            return {}
        self._epoch = session.run.epoch
        if self._log is not None:
            self._log.add(self._epoch, results)
        return results.numbers(self.measures(session))

    def setup(self, session: Session) -> None:
        """Start with the epochs of an interrupted run."""
        done = session.history.epoch
        self._epoch = 0
        self._log = ClassLog(session.run.callbacks_dir / self.filename, session.run.classes, done)
        self._log.begin()
        self._drawing.restart()

    def act(self, session: Session) -> None:
        """Draw, if there are new values and the last picture is old enough."""
        if self._epoch == session.history.epoch and self._drawing.is_due:
            self._draw(session)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Draw the last picture, but not after Ctrl-C, which should not wait for it."""
        if self._epoch and not isinstance(error, KeyboardInterrupt):
            self._draw(session)

    def _draw(self, session: Session) -> None:
        if self.heatmap is None:
            return
        folder = session.run.callbacks_dir
        named = () if self.classes is None else session.run.classes.select(self.classes)
        self._drawing.draw(
            session, folder / self.filename, folder / self.heatmap, named if len(named) <= _MOST_NAMED else ()
        )


def _names(name: str, value: object, example: str) -> list[str] | None:
    """Return a list of names.

    Raises:
        TypeError: If it is something else.
        ValueError: If it is empty.
    """
    if value is None:
        return None
    names = check_names(name, value, f"a list of names such as {example}", one=True)
    if not names:
        raise ValueError(f"{name}={quoted(value)} names nothing: leave it out for all")
    return [str(item) for item in names]
