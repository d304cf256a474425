"""TensorBoard: numbers, decisions, histograms, images and the graph of a run as event files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.tensorboard_run import BoardRun
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.checks import check_bool, check_int, check_path, nearest, quoted
from yolo_callbacks.support.optional_packages import require
from yolo_callbacks.support.per_run import PerRun

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session

_STEPS_PER_SECOND = "speed/steps_per_second"


class TensorBoard(PerRun[BoardRun], Callback):
    """Write event files for TensorBoard: `tensorboard --logdir runs`.

    | group | content | step |
    |---|---|---|
    | `train`, `val`, `metrics`, `lr`, `speed`, ... | all numbers of the epoch, including those of callbacks | epoch |
    | `best` | fitness and number of the best epoch so far, to compare runs in the HParams tab | epoch |
    | `batch` | losses of single batches, in the subfolder `batches` (see `update_freq`) | batch |
    | `decisions`, `run` | as text: decisions and their reasons; arguments, versions, callbacks; how it ended | epoch |
    | `weights`, `gradients` | histograms (see `histogram_freq`) | epoch |
    | `validation` | labels next to predictions (see `predictions_freq`) | epoch |

    Epochs are counted from 1, as in `results.csv`. A resumed run continues in the same folder: no epoch appears
    twice, and epochs that were lost with the process are written again from the journal. The final evaluation does not
    count as an epoch.

    Ultralytics' own integration (`settings["tensorboard"]`) logs a part of this. If it is on, it is switched off for
    the run, with a line in the log.

    A background thread writes everything. The training thread spends less than 0.1 ms per epoch; with histograms it
    copies up to about 4,000 numbers per tensor, 10 ms for YOLO26n on a CPU. Weights are the validated and saved ones
    (EMA); gradients are those of the epoch's first finite step, before clipping. For the graph, the model is copied
    once before the first epoch (0.03 s for YOLO26n, 0.06 s for YOLO26x) and traced by the thread in about a second.

    Args:
        log_dir: Folder for the event files; every run gets a subfolder with its name. None for the run directory
            itself, where Ultralytics writes its own (Keras: `"logs"`). Defaults to None.
        histogram_freq: Write histograms of weights and gradients in the first epoch and every Nth epoch after it, >= 0;
            0 for none. Defaults to 0.
        write_graph: Whether to write the graph of the model. Defaults to True. PyTorch keeps what it has traced until
            the process ends, so set it to False in a process that trains hundreds of times.
        write_images: Only False: images of weights, as in Keras, say little about convolutions. See
            `predictions_freq`. Defaults to False.
        write_steps_per_second: Whether to measure the number of batches per second, `speed/steps_per_second`. Defaults
            to False.
        update_freq: `"epoch"`, or `"batch"` or a number N >= 1 to also write the losses of every batch or every Nth
            batch. Defaults to `"epoch"`.
        profile_batch: Only 0: use `torch.profiler`. Defaults to 0.
        embeddings_freq: Only 0: a detector has no embedding layers. Defaults to 0.
        embeddings_metadata: Only None: a detector has no embedding layers. Defaults to None.
        predictions_freq: Write the first four validation images, labels next to predictions, in the first epoch and
            every Nth epoch after it, >= 0; 0 for none. Defaults to 0.

    Raises:
        ImportError: If the package `tensorboard` is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or asks for something that is not available.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.TensorBoard(histogram_freq=5, predictions_freq=5)])
        ```
    """

    priority = Priority.REPORT
    replaces: ClassVar[str] = "tensorboard"

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: None = None,
        *,
        predictions_freq: int = 0,
    ) -> None:
        require("tensorboard", who="TensorBoard")
        self.log_dir = _check_folder(log_dir)
        self.histogram_freq = check_int("histogram_freq", histogram_freq, minimum=0)
        self.write_graph = check_bool("write_graph", write_graph)
        self.write_images = _check_off("write_images", write_images, "predictions_freq=5 draws predictions instead")
        self.write_steps_per_second = check_bool("write_steps_per_second", write_steps_per_second)
        self.update_freq = _check_update_freq(update_freq)
        self.profile_batch = _check_off("profile_batch", profile_batch, "torch.profiler does that")
        self.embeddings_freq = _check_off("embeddings_freq", embeddings_freq, "a detector has no embedding layers")
        self.embeddings_metadata = _check_off(
            "embeddings_metadata", embeddings_metadata, "a detector has no embedding layers"
        )
        self.predictions_freq = check_int("predictions_freq", predictions_freq, minimum=0)

    def outputs(self) -> Iterable[str]:
        """Return the event files."""
        return ("events.out.tfevents.*" if self.log_dir is None else f"{self.log_dir}/*/events.out.tfevents.*",)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the number of batches per second, if requested."""
        return (_STEPS_PER_SECOND,) if self.write_steps_per_second else ()

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return the number of batches per second, if requested."""
        if self._live is None or not self.write_steps_per_second:
            return {}
        return {_STEPS_PER_SECOND: self._live.steps_per_second}

    def setup(self, session: Session) -> None:
        """Open the event file, and write the epochs that an interrupted run lost."""
        self._live = None
        self._live = BoardRun(self, session)

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Watch the gradients, if a histogram is due."""
        super().on_train_epoch_start(trainer)
        self._guarded(BoardRun.begin_epoch)

    def on_train_batch_end(self, trainer: Any) -> None:
        """Write the losses of the batch, if requested."""
        if self._live is None:
            super().on_train_batch_end(trainer)
        else:
            self._guarded(BoardRun.end_batch)

    def on_train_epoch_end(self, trainer: Any) -> None:
        """Watch the predictions, if images are due."""
        super().on_train_epoch_end(trainer)
        self._guarded(BoardRun.end_train_part)

    def act(self, session: Session) -> None:
        """Write the epoch."""
        if self._live is not None:
            self._live.end_epoch()

    def close(self, session: Session, error: BaseException | None) -> None:
        """Write how the run ended, and close the files."""
        live, self._live = self._live, None
        if live is not None:
            live.close(error)

    def _guarded(self, step: Callable[[BoardRun], None]) -> None:
        """Run a step in an event, where an error would end the training."""
        if self._live is not None:
            try:
                step(self._live)
            except Exception as error:
                tell_once(self._live.told, f"TensorBoard.{step.__name__}", error)


def _check_folder(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"log_dir={quoted(value)} must be the path of a folder or None, not {type(value).__name__}")
    folder = os.fspath(value)
    if "://" in str(folder):
        raise ValueError(f"log_dir={quoted(folder)} must be a local folder, not an address")
    return check_path("log_dir", str(folder))


def _check_off(name: str, value: Any, why: str) -> Any:
    try:
        asked = bool(value)
    except Exception:  # such as an array
        asked = True
    if asked:
        raise ValueError(f"{name}={quoted(value)} is not available here: {why}")
    return value


def _check_update_freq(value: object) -> str | int:
    if isinstance(value, str):
        if value not in ("epoch", "batch"):
            hint = nearest(value, ["epoch", "batch"])
            raise ValueError(f"update_freq={quoted(value)} must be 'epoch', 'batch' or a number of batches{hint}")
        return value
    return check_int("update_freq", value, minimum=1)
