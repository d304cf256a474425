"""ExtraValidation: validate on a second data set every few epochs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.epochs import is_due
from yolo_callbacks.core.lineup import label_of
from yolo_callbacks.core.metrics import class_metric
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import SettingError, check_choice, check_int
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.per_run import PerRun

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session
    from yolo_callbacks.trainer.extra_validation import ValidationOnData
    from yolo_callbacks.trainer.run import Run

_TAKEN = ("train", "val", "metrics", "lr", "classes", "gradients", "activations")
"""Prefixes of what others measure."""


@dataclass
class _Live:
    run: Run
    validation: ValidationOnData


class ExtraValidation(PerRun[_Live], Callback):
    """Validate the model on a second data set every few epochs, with metrics of their own.

    It runs after the trainer's validation of the epoch, with the same EMA weights, arguments and validator class (also
    that of a custom trainer), and changes nothing in the training: `results.csv`, fitness, `best.pt`, plots and all
    digits are as without it. It is due in the first epoch, in every Nth one, and in the last, with `val=False` too. A
    run that another callback stops early ends with the newest measurement that it has.

    | column and monitor | content |
    |---|---|
    | `test/metrics/mAP50-95(B)`, `test/metrics/recall(B)`, ... | the metrics of the task, in [0, 1] |
    | `test/fitness` | what Ultralytics would choose `best.pt` by |
    | `test/box_loss`, `test/cls_loss`, ... | the losses |

    Here `test` is the `prefix`. Epochs in between have empty cells. Nothing is decided by these numbers unless a
    callback names one as its monitor: `EarlyStopping(monitor="test/mAP50-95")`. Its patience counts epochs,
    as ever, and those without a measurement count when the next one brings no improvement.

    The data set is checked, and its labels are read, before the first epoch. An error later on, such as a lack of
    memory, is logged once; that epoch has no measurement, so no decision depends on it, and the next one that is due
    tries again. On several GPUs rank 0 validates, and the others wait for it. No callback receives `on_val_...` events
    of it.

    Args:
        data: The second data set, as `train(data=...)` takes it, with the classes of the training in the same order.
            None for another split of the training's own. Defaults to None.
        split: `"train"`, `"val"` or `"test"`. None for `"val"` of `data`, and `"test"` of the training's own. Defaults
            to None.
        every: Validate every Nth epoch, >= 1. Defaults to 5.
        prefix: What the names begin with: letters, digits, `_`, `-` and `.`. Defaults to `"test"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or, before the first epoch, if there is no such data set or split,
            or its classes are not those of the training.

    Example:
        ```python
        ycb.attach(model, [ycb.ExtraValidation("night.yaml", every=5, prefix="night"), ycb.CSVLogger()])
        ```
    """

    priority = Priority.MEASURE
    critical = False

    def __init__(
        self,
        data: Union[str, PathLike[str], None] = None,
        *,
        split: str | None = None,
        every: int = 5,
        prefix: str = "test",
    ) -> None:
        if data is not None and not isinstance(data, (str, PathLike)):
            raise TypeError(f"data={data!r} must be a data set such as 'night.yaml', or None")
        self.data = None if data is None else fspath(data)
        self.split = None if split is None else check_choice("split", split, ("train", "val", "test"))
        self.every = check_int("every", every, minimum=1)
        self.prefix = _check_prefix(prefix)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the names of the columns.

        Raises:
            SettingError: If the data set cannot be validated on.
        """
        return tuple(self._renamed(name) for name in self._validation(session).names())

    def measure(self, session: Session) -> Mapping[str, float]:
        """Validate, if it is due."""
        run = session.run
        if not is_due(run.epoch, self.every, run.planned_epochs) and not run.stopping:
            return {}
        LOGGER.info(f"{label_of(self, session.callbacks)}: validating on {self._what}:")

        def tell() -> None:
            for callback in session.callbacks.values():
                callback.between_batches()

        results = self._validation(session).run(tell)
        return {self._renamed(name): value for name, value in results.items()}

    def close(self, session: Session, error: BaseException | None) -> None:
        """End the workers of the data loader."""
        self._end()

    def teardown(self, trainer: Any) -> None:
        """End them also if the run has failed before its callbacks were set up."""
        self._end()

    def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.validation.close()

    @property
    def _chosen_split(self) -> str:
        return self.split or ("test" if self.data is None else "val")

    @property
    def _what(self) -> str:
        return f"split '{self._chosen_split}' of {self.data or 'the data of the run'}"

    def _validation(self, session: Session) -> ValidationOnData:
        if self._live is None or self._live.run is not session.run:
            name = label_of(self, session.callbacks)
            for other, callback in session.callbacks.items():
                if isinstance(callback, ExtraValidation) and callback is not self and callback.prefix == self.prefix:
                    raise SettingError(f"{name} and {other} have the same prefix='{self.prefix}': give each its own")
            self._live = _Live(session.run, session.run.extra_validation(name, self.data, self._chosen_split))
        return self._live.validation

    def _renamed(self, name: str) -> str:
        """Return the name of a number here, such as `test/box_loss` for `val/box_loss`."""
        return f"{self.prefix}/{name.removeprefix('val/')}"


def _check_prefix(prefix: object) -> str:
    if not isinstance(prefix, str):
        raise TypeError(f"prefix={prefix!r} must be a word such as 'test'")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", prefix):
        raise ValueError(f"prefix={prefix!r} must be a word of letters, digits, '_', '-' and '.', such as 'test'")
    if prefix in _TAKEN or class_metric(f"{prefix}/a class") is not None:
        raise ValueError(f"prefix={prefix!r} is that of other metrics: choose another, such as 'test'")
    return prefix
