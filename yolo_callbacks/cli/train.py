"""`yolo-cb train`: train with callbacks, and say how to resume a run that did not complete."""

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
from yolo_callbacks.cli.interrupts import forward_signals, stop_on_interrupt
from yolo_callbacks.cli.resume import NothingToDo, Resumption, callbacks_of, extend_run, find_run
from yolo_callbacks.cli.sources import SUITABLE_ARGUMENTS, SourceError, find_data, load_model
from yolo_callbacks.config import ConfigError, load_config
from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.core.extension import DEFAULT_SCHEDULE
from yolo_callbacks.defaults import default_callbacks, protecting_callbacks
from yolo_callbacks.reporting.summary import in_one_line, literal
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.support.checks import SettingError

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130
_STYLES = {
    "Note:": "bold yellow",
    "Error:": "bold red",
    "Training failed:": "bold red",
    "Resume with:": "bold",
}
_OWN_OPTIONS = ("data", "model", "epochs", "config", "resume", "schedule", "protect", "standin")


@dataclass(frozen=True)
class TrainRequest:
    """What was typed: our own options, and the remaining words, which are for Ultralytics.

    Attributes:
        exports_count: Whether a rejected export makes the command fail, although the training has completed.
        schedule: What the learning rate does in more epochs of a resumed run; None for the default.
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
    schedule: str | None = None


def train_command(request: TrainRequest) -> int:
    """Train, and return the exit code."""
    console = Console(stderr=True)
    try:
        arguments = _arguments(request)
        run = arguments.pop("resume", None)
        if run and "model" in arguments:
            raise UsageError("--resume continues with the run's own model: leave out --model")
        resumed = _resumed(run, arguments, request)
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


def _resumed(run: Any, arguments: dict[str, Any], request: TrainRequest) -> Resumption | None:
    """Return how the run is resumed, with more epochs if they are given; None for a new run.

    Raises:
        UsageError: If that is not possible.
        NothingToDo: If it has ended, and no more epochs are given.
    """
    epochs, schedule = arguments.get("epochs"), request.schedule
    if schedule is not None and not (run and epochs):
        raise UsageError("--schedule says how a run goes on for more epochs: give --resume RUN and --epochs, too")
    if not run or not epochs:
        return find_run(run) if run else None
    resumed = extend_run(run, int(epochs), schedule or DEFAULT_SCHEDULE, with_callbacks=request.config is None)
    if resumed.arguments.get("resume"):
        del arguments["epochs"]  # the checkpoint has it
    return resumed


def _explain(error: BaseException, console: Console) -> int:
    """Say why there was no training, or why it failed, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        console.print("Interrupted.")
        return INTERRUPTED
    if isinstance(error, (SettingError, SourceError)):  # mistakes, no network: a traceback would not help
        _say(console, "Error:", error)
        return USAGE if isinstance(error, SettingError) else FAILURE
    traceback.print_exception(error)
    console.print()
    _say(console, "Training failed:", f"{type(error).__name__}: {error}")
    return FAILURE


def _say_how_to_resume(attachment: Attachment, console: Console) -> None:
    report = attachment.report()
    if report is not None and report.resume_command is not None:
        _say(console, "Resume with:", report.resume_command)


def _say(console: Console, word: str, what: object) -> None:
    """Print a line that begins with a word for its kind."""
    text = str(what) if word == "Training failed:" else in_one_line(str(what))
    console.print(literal(text, _STYLES[word], word), soft_wrap=True)


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
    """Return the callbacks, from the command line or the resumed run, and a remark on where they come from.

    Raises:
        UsageError: If the run's callbacks cannot be restored.
        ConfigError: If the file has a mistake.
    """
    earlier = callbacks_of(resumed.folder) if resumed is not None and request.config is None else None
    if earlier is not None:
        return earlier, " (restored from the run)"
    if resumed is not None and request.config is None:
        _say(console, "Note:", f"{resumed.folder} does not record its callbacks: using the defaults.")
    chosen = default_callbacks() if request.config is None else load_config(request.config)
    listed = {type(callback) for callback in chosen}
    added = [item for item in protecting_callbacks() if request.protect and type(item) not in listed]
    which = "the last one" if len(added) == 1 else f"the last {len(added)}"
    return chosen + added, f" ({which} added by yolo-cb; --no-protect leaves them out)" if added else ""


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
        console.print(Panel(literal(warning), title="[bold]WARNING[/bold]", border_style="bold red"))
    attachment = attach(model, callbacks)
    attachment.facts.update(facts)
    attachment.remark = remark
    with stop_on_interrupt(attachment, console), forward_signals(model) as forwarded:
        try:
            model.train(**{key: value for key, value in arguments.items() if key not in ("mode", "task")})
        except SystemExit:
            _say_how_to_resume(attachment, console)
            raise
        except (Exception, KeyboardInterrupt) as error:
            code = 128 + forwarded[0] if forwarded else _explain(error, console)  # the signal ended the ranks
            _say_how_to_resume(attachment, console)
            return code
    rejected = _rejected_exports(attachment)
    for item in rejected:
        _say(console, "Error:", f"the export of {item['from']} to {item['format']} was rejected: {item['error']}.")
    if rejected:
        console.print(literal(f"The training itself succeeded: {attachment.save_dir}"), soft_wrap=True)
    if attachment.stop_reason is StopReason.INTERRUPTED:
        _say_how_to_resume(attachment, console)
        return INTERRUPTED
    return FAILURE if rejected and request.exports_count else OK


def _rejected_exports(attachment: Attachment) -> list[dict[str, Any]]:
    """Return the rejected exports from `run.json`."""
    exports = manifest_of(attachment.save_dir).get("exports", []) if attachment.save_dir else []
    return [item for item in exports if item.get("passed") is False]
