"""ModelCheckpoint: keep the best checkpoints and periodic ones; export the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import SaveCheckpoint
from yolo_callbacks.core.monitor import Metric, Monitor
from yolo_callbacks.core.naming import EXAMPLE_EPOCH, EXCEPTION, LATEST, FileTemplate, slug
from yolo_callbacks.core.record import History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.core.selection import ALL, ClockFold, Top, TopFold, never_due
from yolo_callbacks.support.checks import (
    check_bool,
    check_choice,
    check_int,
    check_names,
    check_number,
    check_verbose,
    quoted,
)
from yolo_callbacks.support.log import LOGGER

if TYPE_CHECKING:
    from yolo_callbacks.exports.plan import ExportPlan
    from yolo_callbacks.session.session import Session

PERIODIC = "epoch-{epoch:04d}.pt"


class ModelCheckpoint(Callback):
    """Keep the checkpoints with the best value of a monitored metric, and periodic ones if requested.

    A kept file is the trainer's own checkpoint of that epoch: the validated EMA weights, with optimizer and arguments,
    so it can be validated, exported and resumed. A background thread copies it, writes it atomically, and lists it
    with its SHA-256 in `callbacks/run.json`. Ultralytics' `best.pt` and `last.pt` do not change.

    Args:
        filepath: Name of the best checkpoints: a template with `{epoch}` (counted from 1), `{monitor}` (the monitored
            value) and metrics' names, for example `"{epoch:03d}-{mAP50-95:.4f}"`. Relative to the run's `weights`
            folder, or absolute. It needs `{epoch}` if more than one file is kept. None gives `best-<monitor>.pt` for
            one file, and `<monitor>-{epoch:04d}-{monitor:.5f}.pt` for several. Defaults to None.
        monitor: A metric's name or a function of the epoch's metrics, as in `EarlyStopping`. Defaults to
            `"fitness"`.
        verbose: 1 logs a line for each new best, 0 does not. Defaults to 1.
        save_best_only: False keeps every validated epoch. Defaults to True.
        save_weights_only: Leave out the optimizer, as Ultralytics does at the end: a third of the size, but not
            resumable. Defaults to False.
        mode: `"max"`, `"min"` or `"auto"`. Defaults to `"auto"`.
        save_top_k: How many of the best to keep, >= 1; -1 for all, 0 for none. Defaults to 1.
        every_n_epochs: Also keep every Nth epoch for good, as `epoch-<number>.pt`, >= 1; None for none. Defaults to
            None.
        every_n_minutes: Also keep an epoch for good whenever this many minutes of training have passed, > 0; None for
            none. Defaults to None.
        save_last: Also keep a copy of the newest checkpoint as `latest.pt`. It keeps its optimizer after the training,
            when Ultralytics strips `last.pt`. Defaults to False.
        save_on_exception: When training ends with an exception, save the current weights as `exception.pt`; resuming
            it repeats the epoch that failed. Defaults to False.
        export: A format of Ultralytics (`"onnx"`, `"openvino"`, ...) or a list of them: export the best checkpoint
            into `export/`, and verify it (see below). Defaults to None.
        export_args: Arguments for the export, such as `{"dynamic": True}`; each format gets those that it accepts.
            `"device"` chooses where export and verification run. The default is the CPU, since the training may use
            all of the GPU's memory. Defaults to None.
        export_when: `"end"` exports when training ends. `"best"` also exports each new best during training, at low
            priority in a separate process, one at a time; of several that wait, only the newest is exported. Defaults
            to `"end"`.
        export_tolerance: The largest difference in fitness between an exported file and its checkpoint, >= 0. Files
            with half precision or 8 bits differ more: raise it for them. None exports without verification. Defaults
            to 0.005.
        export_timeout: Maximum seconds per format, including verification, > 0. Defaults to 1800.
        filename: Lightning's name for `filepath`; pass only one of them. Defaults to None.

    **Verified exports.** Ultralytics loads each exported file and validates it on the data of the run, and its
    checkpoint on the same images in the same shape. `export/report.json` has the metrics and speed of both, the
    difference, size, SHA-256, class names and versions. A file that cannot be exported, loaded or validated, or that
    differs too much, is rejected: an error is logged, the report and `run.json` say why, the file is renamed to end in
    `.rejected`, and `yolo-cb train` exits with 1. The checkpoint stays, and `model.train()` returns as usual. All of
    this runs in a separate process, which cannot crash the training, installs and downloads nothing, and ends with the
    training. `ExportCheck` tells before the first epoch whether a model can be exported at all.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, a template's key is unknown, or arguments contradict each other.
        ImportError: If a format needs a package that is not installed.

    Example:
        ```python
        ycb.attach(model, [ycb.ModelCheckpoint("{epoch:03d}-{mAP50-95:.4f}", monitor="mAP50-95", save_top_k=3)])
        ```
    """

    priority = Priority.CHECKPOINT
    critical = True

    def __init__(
        self,
        filepath: str | None = None,
        monitor: Metric = "fitness",
        verbose: int = 1,
        save_best_only: bool = True,
        save_weights_only: bool = False,
        mode: str = "auto",
        *,
        save_top_k: int = 1,
        every_n_epochs: int | None = None,
        every_n_minutes: float | None = None,
        save_last: bool = False,
        save_on_exception: bool = False,
        export: Union[str, Iterable[str], None] = None,
        export_args: Mapping[str, Any] | None = None,
        export_when: str = "end",
        export_tolerance: float | None = 0.005,
        export_timeout: float = 1800,
        filename: str | None = None,
    ) -> None:
        if filepath is not None and filename is not None:
            raise ValueError(
                f"filepath={quoted(filepath)} and filename={quoted(filename)} mean the same: pass only one of them"
            )
        self.filepath = filepath
        self.filename = filename
        self.monitor = monitor
        self.verbose = check_verbose(verbose)
        self.save_best_only = check_bool("save_best_only", save_best_only)
        self.save_weights_only = check_bool("save_weights_only", save_weights_only)
        self.mode = mode
        self.save_top_k = check_int("save_top_k", save_top_k, minimum=ALL)
        self.every_n_epochs = None if every_n_epochs is None else check_int("every_n_epochs", every_n_epochs, minimum=1)
        self.every_n_minutes = (
            None
            if every_n_minutes is None
            else check_number("every_n_minutes", every_n_minutes, minimum=0.0, exclusive=True)
        )
        self.save_last = check_bool("save_last", save_last)
        self.save_on_exception = check_bool("save_on_exception", save_on_exception)
        self._monitor = Monitor.of(monitor, mode)
        self._top_k = self.save_top_k if self.save_best_only else ALL
        self._template = FileTemplate(self._best_name())
        if self._template.replaced_suffix:
            LOGGER.info(
                f"filepath={quoted(filepath)} is written with the suffix .pt, by which YOLO recognizes checkpoints"
            )
        if self._top_k not in (0, 1) and "epoch" not in self._template.keys:
            raise ValueError(
                f"filepath={quoted(filepath or filename)} must contain '{{epoch}}', because "
                f"{'save_best_only=False' if not self.save_best_only else f'save_top_k={save_top_k}'} keeps several "
                "files, which would overwrite each other"
            )
        self.export_when = check_choice("export_when", export_when, ("end", "best"))
        self.export_tolerance = (
            None if export_tolerance is None else check_number("export_tolerance", export_tolerance, minimum=0.0)
        )
        self.export_timeout = check_number("export_timeout", export_timeout, minimum=0.0, exclusive=True)
        self.export = _checked_formats(export, to_verify=self.export_tolerance is not None)
        self.export_args = _checked_export_args(export_args, self.export)
        if self.export and self._top_k == 0:
            raise ValueError(f"export={quoted(export)} needs a best checkpoint, but save_top_k=0 keeps none")
        if self.export_when == "best" and not self.export:
            raise ValueError("export_when='best' needs a format to export, such as export='onnx'")
        self._best = TopFold(self._monitor, self._top_k, self._template)
        self._clock = ClockFold(self.every_n_minutes * 60) if self.every_n_minutes else None

    def _best_name(self) -> str:
        given = self.filepath if self.filepath is not None else self.filename
        if given is not None:
            return given
        name = slug(self._monitor.name)
        return f"best-{name}.pt" if self._top_k in (0, 1) else f"{name}-{{epoch:04d}}-{{monitor:.5f}}.pt"

    def _beside(self, name: str) -> str:
        """Return a name in the folder of the best checkpoints."""
        folder, _, _ = self._template.example().rpartition("/")
        return f"{folder}/{name}"

    def needs(self) -> Iterable[str]:
        """Return the monitored metric and those in the template."""
        return (*self._monitor.needs, *(key for key in self._template.keys if key not in ("epoch", "monitor")))

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return a sentence if the run is too short for a periodic checkpoint."""
        return never_due(self.every_n_epochs, plan)

    def outputs(self) -> Iterable[str]:
        """Return examples of the checkpoints and exported files."""
        best = self._template.example()
        names = [best] if self._top_k else []
        periodic = self.every_n_epochs is not None or self.every_n_minutes is not None
        optional = ((PERIODIC, periodic), (LATEST, self.save_last), (EXCEPTION, self.save_on_exception))
        names += [self._beside(name.format(epoch=EXAMPLE_EPOCH)) for name, wanted in optional if wanted]
        return names + self._exported(best)

    def _exported(self, checkpoint: str) -> list[str]:
        if not self.export:
            return []
        from yolo_callbacks.exports.formats import exported_file

        return [exported_file(checkpoint, name) for name in self.export]

    def decide(self, history: History) -> list[SaveCheckpoint]:
        """Keep this epoch's checkpoint if it is among the best, or a periodic one is due."""
        if not history:
            return []
        record, decisions = history[-1], []
        best = history.fold(self._best)
        if self._top_k and best.changed_in == record.epoch:
            decisions.append(self._save_best(best))
        due = self.every_n_epochs is not None and record.epoch % self.every_n_epochs == 0
        if self._clock is not None:
            due = history.fold(self._clock).epoch == record.epoch or due
        if due:
            decisions.append(self._save(record.epoch, PERIODIC.format(epoch=record.epoch), "periodic"))
        if self.save_last:
            decisions.append(self._save(record.epoch, LATEST, "latest"))
        return decisions

    def _save_best(self, best: Top) -> SaveCheckpoint:
        value, epoch, file = best.newest
        rank = 1 + sum(e != epoch and not self._monitor.is_better(value, other) for other, e, _ in best.kept)
        place = "the best so far" if rank == 1 else f"number {rank}"
        verdict = f"{value:.5g} is " + ("kept" if self._top_k == ALL else f"{place} -> {file}")
        if rank == 1 and self._monitor.is_worst(value):
            verdict = f"is still 0 -> {file}"
        return SaveCheckpoint(
            f"{self._monitor.name} {verdict}",
            epoch,
            file=file,
            role="best",
            value=value,
            monitor=self._monitor.name,
            drop=best.dropped,
            weights_only=self.save_weights_only,
        )

    def _save(self, epoch: int, name: str, role: str) -> SaveCheckpoint:
        file = self._beside(name)
        return SaveCheckpoint(
            f"kept as {file}", epoch, file=file, role=role, weights_only=self.save_weights_only, announce=False
        )

    def best_file(self, history: History) -> str | None:
        """Return the file of the best checkpoint so far, relative to the run directory; None before the first."""
        kept = history.fold(self._best).kept
        return kept[0][2] if kept else None

    def act(self, session: Session) -> None:
        """Export a new best, if requested."""
        kept = session.history.fold(self._best).kept
        if self.export_when == "best" and kept and kept[0][1] == session.history.epoch:
            session.files.export_soon(kept[0][2], self._export_plan())

    def close(self, session: Session, error: BaseException | None) -> None:
        """Save what an exception would lose, or export the best."""
        if error is not None:
            session.files.exports.cancel()
            if self.save_on_exception and not isinstance(error, SystemExit):  # an exit should not wait
                session.files.save_now(self._beside(EXCEPTION), "exception", session.history.epoch)
            return
        best = self.best_file(session.history)
        if self.export and best is not None:
            session.files.export(best, self._export_plan())

    def _export_plan(self) -> ExportPlan:
        from yolo_callbacks.exports.plan import ExportPlan

        return ExportPlan(
            self._best_name(), self.export, self.export_args or {}, self.export_tolerance, self.export_timeout
        )


def _checked_formats(export: object, *, to_verify: bool) -> tuple[str, ...]:
    """Return the export formats in Ultralytics' spelling.

    Raises:
        TypeError: If it is neither a name nor a list of names.
        ValueError: If Ultralytics has no such format.
        ImportError: If a format needs a package that is not installed.
    """
    if export is None:
        return ()
    from yolo_callbacks.exports.formats import check_formats, check_packages

    formats = check_formats(check_names("export", export, "a format such as 'onnx', or a list of them", one=True))
    check_packages(formats, to_verify=to_verify)
    return formats


def _checked_export_args(arguments: object, formats: tuple[str, ...]) -> dict[str, Any] | None:
    if arguments is None:
        return None
    from yolo_callbacks.exports.formats import check_export_args

    return check_export_args(arguments, formats)
