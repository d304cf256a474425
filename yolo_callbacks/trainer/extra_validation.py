"""Validates a model on another data set than the trainer's, without touching the trainer. Used only by `run.py`.

It works on a copy of the trainer object with the other data, so that loaders and validator are made as a custom trainer
makes them, and validates the same EMA weights with the same arguments as the trainer's own validation. The copy has no
callbacks and is the only rank: nobody takes this validation for the trainer's, and no other process takes part.
"""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from yolo_callbacks.support.checks import SettingError
from yolo_callbacks.trainer import introspection
from yolo_callbacks.trainer.exact.random_state import generators, set_generators

_QUIET = {"plots": False, "save_json": False, "save_txt": False, "visualize": False}


class ValidationOnData:
    """Validates one training's model on another data set, as often as it is asked to.

    Args:
        trainer: The trainer, once its model is built.
        who: Whose validation it is, for messages.
        data: Another data set, as `train(data=...)` takes it; None for another split of the training's own.
        split: The split: `"train"`, `"val"` or `"test"`.

    Raises:
        SettingError: If there is no such data set or split, or its classes are not those of the training.
    """

    def __init__(self, trainer: Any, who: str, data: str | None, split: str) -> None:
        self._trainer = trainer
        self._who = who
        self._split = split
        self._what = str(trainer.args.data) if data is None else data
        self._loader: Any = None
        self._validator: Any = None
        self._batch_size = 0
        with _undisturbed(trainer):
            self._data = trainer.data if data is None else self._load(data)
            self._check(own=data is None)
            try:
                self._build()
            except Exception as error:
                raise self._problem(f"its {split} images cannot be loaded: {_first_line(error)}") from error

    def names(self) -> tuple[str, ...]:
        """Return the names of what `run` measures, as the trainer would call it; losses begin with `val/`."""
        metrics = (name for name in introspection.metric_names(self._trainer) if name.startswith("metrics/"))
        return ("fitness", *metrics, *(f"val/{name}" for name in introspection.loss_names(self._trainer)))

    def run(self, between_batches: Callable[[], None]) -> Mapping[str, float]:
        """Validate the weights of the epoch that has just ended.

        Args:
            between_batches: Called after each batch.
        """
        trainer = self._trainer
        model = vars(trainer.ema.ema)
        criterion = {key: model[key] for key in ("criterion",) if key in model}
        try:
            with _undisturbed(trainer):
                if self._validator is None or self._batch_size != _batch_size(trainer):  # it was halved to save memory
                    self._build()
                self._validator.callbacks["on_val_batch_end"] = [lambda _: between_batches()]
                results = self._validator(self._view())
        except BaseException:
            self.close()  # a loader whose worker has died is of no use
            trainer._clear_memory()
            raise
        finally:
            model.pop("criterion", None)  # a validation makes one; with val=False, the model has had none
            model.update(criterion)
        return introspection.numbers(results or {})

    def close(self) -> None:
        """End the workers of the loader. A later `run` starts others."""
        loader, self._loader, self._validator = self._loader, None, None
        if hasattr(loader, "close"):
            loader.close()

    # ------------------------------------------------------------------------------------------ building

    def _load(self, data: str) -> Mapping[str, Any]:
        view = self._view(data={}, args={"data": data})
        try:
            loaded: Mapping[str, Any] = view.get_dataset()
        except Exception as error:
            raise self._problem(_first_line(error)) from error
        return loaded

    def _check(self, *, own: bool) -> None:
        trainer, mine, theirs = self._trainer, self._data, self._trainer.data
        if own and self._split == trainer.args.split:
            raise self._problem(f"the trainer itself validates on split '{self._split}' of its data; choose another")
        if not mine.get(self._split):
            raise self._problem(f"it has no split '{self._split}'; choose another, or add it to the file")
        if trainer.args.task != "depth":
            _check_classes(self._problem, _names(mine), _names(theirs))
        for key in ("kpt_shape", "channels"):
            if mine.get(key) != theirs.get(key):
                raise self._problem(f"its {key} is {mine.get(key)}, and the training's is {theirs.get(key)}")

    def _build(self) -> None:
        self.close()
        view, batch_size = self._view(), _batch_size(self._trainer)
        self._loader = view.get_dataloader(self._data[self._split], batch_size=batch_size, rank=-1, mode="val")
        view.test_loader = self._loader
        self._validator = view.get_validator()
        self._validator.gather_stats = lambda: None  # the other ranks do not take part
        self._batch_size = batch_size

    def _view(self, data: Mapping[str, Any] | None = None, args: Mapping[str, Any] | None = None) -> Any:
        """Return a copy of the trainer object as it is now: it shares the model, and not the data."""
        trainer = self._trainer
        view = object.__new__(type(trainer))
        vars(view).update(vars(trainer))
        view.args = copy.copy(trainer.args)
        vars(view.args).update({**_QUIET, "split": self._split, "data": self._what, **(args or {})})
        view.data = self._data if data is None else data
        view.callbacks = defaultdict(list, on_val_start=[])
        view.world_size = 0
        view.test_loader, view.plots = self._loader, {}
        return view

    def _problem(self, what: str) -> SettingError:
        return SettingError(f"{self._who}: {self._what}: {what}")


@contextlib.contextmanager
def _undisturbed(trainer: Any) -> Iterator[None]:
    """Leave the random numbers of this process as they are: a loader with cached images draws some."""
    state = generators(trainer.device)
    try:
        yield
    finally:
        set_generators(state, trainer.device)


def _batch_size(trainer: Any) -> int:
    """Return a batch size that fits: that of the trainer's own validation."""
    return int(getattr(trainer.test_loader, "batch_size", None) or trainer.batch_size)


def _names(data: Mapping[str, Any]) -> dict[int, str]:
    names = data.get("names") or {}
    return dict(names) if isinstance(names, Mapping) else dict(enumerate(names))


def _check_classes(problem: Callable[[str], SettingError], mine: Mapping[int, str], theirs: Mapping[int, str]) -> None:
    if len(mine) != len(theirs):
        raise problem(f"it has {len(mine)} classes, and the training has {len(theirs)}; both must have the same")
    for index, name in theirs.items():
        if mine.get(index) != name:
            raise problem(
                f"its class {index} is '{mine.get(index)}', and the training's is '{name}'; both must have the same "
                "classes in the same order"
            )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
