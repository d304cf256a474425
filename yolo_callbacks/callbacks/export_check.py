"""ExportCheck: export the model before its first epoch, so that a failure is known before the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.lineup import label_of
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import SettingError, check_choice, check_names, check_number
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.per_run import PerRun

if TYPE_CHECKING:
    from yolo_callbacks.exports.check import CheckedFormat, ModelCheck
    from yolo_callbacks.exports.plan import ExportPlan
    from yolo_callbacks.session.session import Session

_WORKER = "export check"


@dataclass
class _Live:
    check: ModelCheck


class ExportCheck(PerRun[_Live], Callback):
    """Export the model before its first epoch: what would fail after days of training is known after half a minute.

    The model is exported with its initial weights, pretrained or not; the exported file is loaded, and both get the
    same noise. Their outputs must agree: 99 % of the numbers must lie within 2 % of the largest one in their channel.
    (BatchNorm takes the noise's statistics in both: with its initial ones, the outputs of an untrained model hardly
    differ.) Where the model itself chooses its detections, it is half of the detections, since scores that are nearly
    equal may change places. With half precision or 8 bits, or where a format arranges its outputs in its own way, the
    exported file must load, run, and give finite numbers. `ModelCheckpoint(export=...)` verifies the trained model as
    well, by its score on the data of the run.

    All this runs in a separate process, which installs and downloads nothing: the digits of the training stay as they
    are. The files are temporary; only `export/check-<format>.log` stays of a failure, with what the exporter has
    printed. A run that is resumed does not repeat a check that has passed, unless its settings or the versions of the
    packages have changed. On several GPUs rank 0 checks, and the others wait for it in their first batch.

    Args:
        export: A format of Ultralytics (`"onnx"`, `"openvino"`, ...) or a list of them, as in `ModelCheckpoint`.
        export_args: Arguments for the export, as in `ModelCheckpoint`, such as `{"dynamic": True}`; each format gets
            those that it accepts. Defaults to None.
        on_failure: `"error"` waits for the check, and a failure ends the run before its first epoch. `"warn"` checks
            while the training runs, at low priority, and logs a failure as a warning; a training that is over sooner
            waits for it, up to two minutes. Defaults to `"error"`.
        timeout: Maximum seconds per format, > 0; more is a failure. Defaults to 600.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, Ultralytics has no such format, or, before the first epoch, if the
            check has failed.
        ImportError: If a format needs a package that is not installed; the message has the command that installs it.

    Example:
        ```python
        ycb.attach(model, [ycb.ExportCheck("onnx"), ycb.ModelCheckpoint(export="onnx")])
        ```
    """

    priority = Priority.REPORT

    def __init__(
        self,
        export: Union[str, Iterable[str]],
        export_args: Mapping[str, Any] | None = None,
        *,
        on_failure: str = "error",
        timeout: float = 600,
    ) -> None:
        from yolo_callbacks.exports.formats import check_export_args, check_formats, check_packages

        names = check_names("export", export, "a format such as 'onnx', or a list of them", one=True)
        if not names:
            raise ValueError(f"export={export!r} names no format: leave out the callback, or name one such as 'onnx'")
        self.export = check_formats(names)
        check_packages(self.export, to_verify=True)
        self.export_args = None if export_args is None else check_export_args(export_args, self.export)
        self.on_failure = check_choice("on_failure", on_failure, ("error", "warn"))
        self.timeout = check_number("timeout", timeout, minimum=0.0, exclusive=True)

    def setup(self, session: Session) -> None:
        """Check the model, or begin to.

        Raises:
            SettingError: If the check has failed, and that is to be an error.
        """
        self._live = None
        facts, label = self._facts(session), label_of(self, session.callbacks)
        if session.history and session.files.remembered(label).get("passed") == facts:
            LOGGER.info(f"{label}: this run has already passed the check for {', '.join(self.export)}")
            return
        checkpoint = session.run.checkpointing.current_bytes(session.history.epoch)
        if checkpoint is None:
            LOGGER.warning(f"{label}: the check is left out, because the model has NaN or infinite weights")
            return
        from yolo_callbacks.exports.check import ModelCheck

        arguments, waits = session.run.validation_arguments(), self.on_failure == "error"
        check = ModelCheck(self._plan(), arguments, session.run.save_dir, considerate=not waits)
        self._live = _Live(check)

        def carry_out() -> list[str]:
            LOGGER.info(f"{label}: checking that the model can be exported to {', '.join(self.export)} ...")
            failures = [_sentence(one) for one in check.run(checkpoint) if not _passed(label, one)]
            if not failures and not check.cancelled:
                session.files.remember(label, passed=facts)
            return failures

        def warn() -> None:
            for failure in carry_out():
                LOGGER.warning(f"{label}: {failure}")

        if not waits:
            session.files.background(_WORKER).submit(label, warn)
        elif failures := carry_out():
            raise SettingError(
                f"{label}: {'; '.join(failures)}: change the model, the format or its arguments, or set "
                "on_failure='warn' to train anyway"
            )

    def close(self, session: Session, error: BaseException | None) -> None:
        """End a check that is still running if the training has failed."""
        live, self._live = self._live, None
        if live is not None and error is not None:
            live.check.cancel()

    def _plan(self) -> ExportPlan:
        from yolo_callbacks.exports.plan import ExportPlan

        return ExportPlan("", self.export, self.export_args or {}, None, self.timeout)

    def _facts(self, session: Session) -> dict[str, Any]:
        """Return what a check depends on, besides the weights."""
        from yolo_callbacks.exports.worker import versions

        return {
            "formats": list(self.export),
            "arguments": dict(self.export_args or {}),
            "imgsz": session.run.validation_arguments()["imgsz"],
            "versions": {name: versions(name) for name in self.export},
        }


def _passed(label: str, checked: CheckedFormat) -> bool:
    if checked.error is not None:
        return False
    outcome = checked.note or "its outputs agree with the model's"
    LOGGER.info(f"{label}: {checked.name} passed in {checked.seconds:.1f} s; {outcome}")
    return True


def _sentence(checked: CheckedFormat) -> str:
    log = f" ({checked.log} has what the exporter printed)" if checked.log is not None else ""
    return f"the model cannot be exported to {checked.name}: {checked.error}{log}"
