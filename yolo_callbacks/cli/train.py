"""`yolo-cb train`: one training with callbacks, and how to go on where it did not come to its end."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel

from yolo_callbacks.attachment import Attachment, attach
from yolo_callbacks.callback import Callback
from yolo_callbacks.cli.arguments import UsageError, check_arguments, parse_arguments, read_cfg
from yolo_callbacks.cli.interrupts import pass_signals_on, stop_on_interrupt
from yolo_callbacks.cli.resume import NothingToDo, Resumption, callbacks_of, find_run
from yolo_callbacks.cli.sources import SUITABLE_ARGUMENTS, SourceError, find_data, load_model
from yolo_callbacks.config import ConfigError, load_config
from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.defaults import default_callbacks, protecting_callbacks
from yolo_callbacks.reporting.summary import plainly
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.support.checks import SettingError

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130
_STYLES = {
    "Note:": "bold yellow",
    "Error:": "bold red",
    "Training failed:": "bold red",
    "To go on:": "bold",
}
_OWN_OPTIONS = ("data", "model", "epochs", "config", "resume", "protect", "standin")


@dataclass(frozen=True)
class TrainRequest:
    """What was typed: our own options, and the words that are left for Ultralytics.

    Attributes:
        exports_count: Whether a rejected export makes the command fail; the training is done all the same.
    """

    data: str | None
    model: str | None
    epochs: int | None
    config: Path | None
    resume: str | None
    protect: bool
    standin: bool
    extra: list[str]
    exports_count: bool = True


def train_command(request: TrainRequest) -> int:
    """Train, and return the exit code."""
    console = Console(stderr=True)
    try:
        arguments = _arguments(request)
        run = arguments.pop("resume", None)
        if run and "model" in arguments:
            raise UsageError("--resume continues with the run's own model: leave --model out")
        resumed = find_run(run) if run else None
        callbacks, remark = _callbacks(request, resumed, console)
    except NothingToDo as done:
        _say(console, "Note:", done)
        return OK
    except (UsageError, ConfigError) as error:
        _say(console, "Error:", error)
        return USAGE
    try:
        return _train(arguments, callbacks, remark, resumed, request, console)
    except (Exception, KeyboardInterrupt) as error:
        return _explain(error, console)


def _explain(error: BaseException, console: Console) -> int:
    """Say why there was no training, or what ended it, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        console.print("Interrupted.")
        return INTERRUPTED
    if isinstance(error, (SettingError, SourceError)):  # mistakes and a missing network: a traceback says no more
        _say(console, "Error:", error)
        return USAGE if isinstance(error, SettingError) else FAILURE
    traceback.print_exception(error)
    console.print()
    _say(console, "Training failed:", f"{type(error).__name__}: {error}")
    return FAILURE


def _say_how_to_resume(attachment: Attachment, console: Console) -> None:
    report = attachment.report()
    if report is not None and report.resume_command is not None:
        _say(console, "To go on:", report.resume_command)


def _say(console: Console, word: str, what: object) -> None:
    """Print a line that begins with a word which says how serious it is."""
    console.print(plainly(what, _STYLES[word], word), soft_wrap=True)


def _arguments(request: TrainRequest) -> dict[str, Any]:
    """Return everything for `model.train`, `model` included, checked.

    Raises:
        UsageError: If anything in it is wrong.
    """
    arguments = parse_arguments(request.extra)
    for key in ("data", "model", "epochs", "resume"):
        value = getattr(request, key)
        if value is not None and key in arguments:
            raise UsageError(f"'{key}' is given twice")
        if value is not None:
            arguments[key] = value
    check_arguments(arguments, _OWN_OPTIONS)
    if arguments.get("cfg"):
        arguments = {**read_cfg(str(arguments.pop("cfg"))), **arguments}
        check_arguments(arguments, _OWN_OPTIONS)
    return arguments


def _callbacks(request: TrainRequest, resumed: Resumption | None, console: Console) -> tuple[list[Callback], str]:
    """Return the callbacks that were asked for, by the command line or the run that goes on, and a word on ours.

    Raises:
        UsageError: If the run's callbacks cannot be restored.
        ConfigError: If the file has a mistake.
    """
    earlier = callbacks_of(resumed.folder) if resumed is not None and request.config is None else None
    if earlier is not None:
        return earlier, " (as the run had them)"
    if resumed is not None and request.config is None:
        _say(console, "Note:", f"{resumed.folder} has no callbacks on record, it gets the default ones.")
    chosen = default_callbacks() if request.config is None else load_config(request.config)
    listed = {type(callback) for callback in chosen}
    added = [item for item in protecting_callbacks() if request.protect and type(item) not in listed]
    which = "the last one" if len(added) == 1 else f"the last {len(added)}"
    return chosen + added, f" ({which} added by yolo-cb, --no-protect leaves them out)" if added else ""


def _train(
    arguments: dict[str, Any],
    callbacks: list[Callback],
    remark: str,
    resumed: Resumption | None,
    request: TrainRequest,
    console: Console,
) -> int:
    name = resumed.model if resumed is not None else arguments.pop("model", None)
    model, note = load_model(name, arguments.get("task"))
    facts: dict[str, Any] = {}
    warning = ""
    if resumed is not None:
        note, arguments = resumed.note, {**resumed.arguments, **arguments}
    else:
        asked = arguments.pop("data", None)
        data, facts, warning = find_data(asked, model.task, request.standin, bool(model.ckpt_path))
        arguments = {**SUITABLE_ARGUMENTS.get(facts.get("data_source", ""), {}), **arguments, "data": data}
        facts["model_source"] = note or None
    if note:
        _say(console, "Note:", note)
    if warning:
        console.print(Panel(plainly(warning), title="[bold]WARNING[/bold]", border_style="bold red"))
    attachment = attach(model, callbacks)
    attachment.facts.update(facts)
    attachment.remark = remark
    with stop_on_interrupt(attachment, console), pass_signals_on(model) as passed_on:
        try:
            model.train(**{key: value for key, value in arguments.items() if key not in ("mode", "task")})
        except SystemExit:
            _say_how_to_resume(attachment, console)
            raise
        except (Exception, KeyboardInterrupt) as error:
            code = 128 + passed_on[0] if passed_on else _explain(error, console)  # the ranks were told to leave
            _say_how_to_resume(attachment, console)
            return code
    rejected = _rejected_exports(attachment)
    for item in rejected:
        _say(console, "Error:", f"the export of {item['from']} to {item['format']} is rejected: {item['error']}.")
    if rejected:
        console.print(plainly(f"The training itself is safe: {attachment.save_dir}"), soft_wrap=True)
    if attachment.stop_reason is StopReason.INTERRUPTED:
        _say_how_to_resume(attachment, console)
        return INTERRUPTED
    return FAILURE if rejected and request.exports_count else OK


def _rejected_exports(attachment: Attachment) -> list[dict[str, Any]]:
    """Return what `run.json` says of exports that are not what their checkpoint is."""
    exports = manifest_of(attachment.save_dir).get("exports", []) if attachment.save_dir else []
    return [item for item in exports if item.get("passed") is False]
