"""SystemMonitor: where the time of each epoch goes, what memory it takes, and what limits the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.core import findings as columns
from yolo_callbacks.core.findings import PREFIX
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.core.system_findings import SystemFold
from yolo_callbacks.support.checks import check_verbose
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.per_run import PerRun
from yolo_callbacks.support.sampler import Sampler

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session

_SAMPLE_SECONDS = 1.0  # the driver's own sample period is up to this long


class SystemMonitor(PerRun[Sampler], Callback):
    """Measure where the time of each epoch goes and what memory it takes, and say in one line what limits the run.

    | column | content |
    |---|---|
    | `system/data_wait` | share of the training time in [0, 1] spent waiting for data |
    | `system/data_seconds` | seconds in which the training loop waited for its data loader |
    | `system/step_seconds` | seconds of the batches themselves: copy to the GPU, forward, backward, optimizer |
    | `system/validation_seconds` | seconds of the validation, if there was one |
    | `system/save_seconds` | seconds of saving `last.pt` and `best.pt`, if they were saved |
    | `system/images_per_second` | training images, of all ranks, per second of waiting and training |
    | `system/rss_gb`, `system/workers_rss_gb` | memory of the process, and of its data loaders' workers together |
    | `system/gpu_allocated_gb` | GPU memory that tensors hold at the end of the epoch (CUDA) |
    | `system/gpu_peak_gb` | highest value of it so far |
    | `system/gpu_reserved_gb` | GPU memory that PyTorch holds, used or not |
    | `system/gpu_utilization` | share of time in [0, 1] in which the GPU worked, mean over the epoch's batches |
    | `system/gpu_power_w` | its power in W, mean over the epoch's batches |
    | `system/disk_free_gb` | free space on the disk of the run directory |

    Sizes are in GiB. Columns that a run cannot have, such as those of a GPU, do not exist in it.

    **Waiting for data** is the time from the end of a batch to the beginning of the next one, and from the beginning of
    an epoch to its first batch, which includes the start of the workers. After each batch Ultralytics reads the losses
    from the GPU and so waits for it: while the loop then waits for data, the GPU is idle. With `workers=0` the time
    includes loading itself. What it does not show: loading that the GPU's work hides, the copy to the GPU, the
    validation's own loader, and the waiting of the other ranks, for which every step of rank 0 waits in turn.

    After a few epochs it logs what takes too large a share of the time: waiting for data, validation, saving, or a GPU
    that idles although data is there. A memory that grows steadily is logged with its slope. Each is logged once, and
    again only if it gets worse; it is also in the summary of the run. Where nothing is wrong, it says nothing. These
    findings are recomputed from the journal, so a resumed run does not repeat them.

    Results stay bit-identical. It measures on rank 0. It takes less than 2 us per batch and 1 ms per epoch; a
    thread asks the GPU's driver once per second. Nothing waits for the GPU.

    Args:
        verbose: 1 logs what limits the run, 0 does not. Defaults to 1.

    Raises:
        TypeError: If `verbose` is not a whole number.
        ValueError: If it is negative.

    Example:
        ```python
        run = ycb.attach(model, [*ycb.default_callbacks(), ycb.SystemMonitor()])
        model.train(data="coco8.yaml", epochs=100)
        print(run.history["system/data_wait"].median())
        ```
    """

    priority = Priority.MEASURE
    critical = False

    def __init__(self, verbose: int = 1) -> None:
        self.verbose = check_verbose(verbose)

    def measures(self, session: Session) -> Iterable[str]:
        """Return the names of the columns."""
        machine = session.run.machine
        times = (columns.DATA_WAIT, columns.DATA, columns.STEP, columns.VALIDATION, columns.SAVE, columns.IMAGES)
        return (*times, *(f"{PREFIX}{name}" for name in (*machine.memory_names, *machine.load_names)))

    def setup(self, session: Session) -> None:
        """Start measuring."""
        self._end()
        session.run.clock.listen()
        if session.run.machine.load_names:
            self._live = Sampler("load of the GPU", session.run.machine.load, _SAMPLE_SECONDS)

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Sample the load of the GPU while batches are trained."""
        super().on_train_epoch_start(trainer)
        if self._live is not None:
            self._live.switch(on=True)

    def on_train_epoch_end(self, trainer: Any) -> None:
        """End sampling: the validation has a load of its own."""
        super().on_train_epoch_end(trainer)
        if self._live is not None:
            self._live.switch(on=False)

    def measure(self, session: Session) -> Mapping[str, float]:
        """Return the numbers of the epoch that are known before its checkpoint is saved."""
        run = session.run
        seconds, measured = run.clock.seconds, dict[str, float]()
        if "data" in seconds:
            training = seconds["data"] + seconds["step"]
            measured[columns.DATA_WAIT] = seconds["data"] / training
            measured[columns.DATA], measured[columns.STEP] = seconds["data"], seconds["step"]
            measured[columns.IMAGES] = run.images_per_epoch * run.clock.batches / run.batches_per_epoch / training
        if "validation" in seconds:
            measured[columns.VALIDATION] = seconds["validation"]
        load = self._live.take() if self._live is not None else {}
        return measured | {f"{PREFIX}{name}": value for name, value in (run.machine.memory() | load).items()}

    def measure_after_save(self, session: Session) -> Mapping[str, float]:
        """Return how long the trainer took to save its checkpoint."""
        seconds = session.run.clock.seconds
        return {columns.SAVE: seconds["save"]} if "save" in seconds else {}

    def act(self, session: Session) -> None:
        """Log what limits the run, if it is new."""
        if self.verbose:
            for finding in session.history.fold(SystemFold()).told_in(session.history.epoch):
                LOGGER.warning(f"{type(self).__name__}: epoch {finding.epoch}: {finding.message}")

    def close(self, session: Session, error: BaseException | None) -> None:
        """Stop measuring."""
        self._end()

    def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.close()
