"""`yolo-cb train`: one training with callbacks, and a short summary of how it went."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from yolo_callbacks.attachment import Attachment, attach
from yolo_callbacks.callback import Callback
from yolo_callbacks.cli.arguments import UsageError, check_arguments, parse_arguments, read_cfg
from yolo_callbacks.cli.interrupts import pass_signals_on, stop_on_interrupt
from yolo_callbacks.cli.resume import NothingToDo, Resumption, callbacks_of, find_run
from yolo_callbacks.cli.sources import SUITABLE_ARGUMENTS, SourceError, find_data, load_model
from yolo_callbacks.config import ConfigError, load_config
from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.core.finishing import finish_in
from yolo_callbacks.core.manifest import manifest_of
from yolo_callbacks.defaults import default_callbacks, protecting_callbacks

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130
_OWN_OPTIONS = ("data", "model", "epochs", "config", "resume", "protect", "standin")


@dataclass(frozen=True)
class TrainRequest:
    """What was typed: our own options, and the words that are left for Ultralytics."""

    data: str | None
    model: str | None
    epochs: int | None
    config: Path | None
    resume: str | None
    protect: bool
    standin: bool
    extra: list[str]


def train_command(request: TrainRequest) -> int:
    """Train, and return the exit code."""
    console = Console(stderr=True)
    try:
        arguments = _arguments(request)
        run = arguments.pop("resume", None)
        if run and "model" in arguments:
            raise UsageError("--resume goes on with the run's own model: leave --model out")
        resumed = find_run(run) if run else None
        callbacks = _callbacks(request, resumed, console)
    except NothingToDo as done:
        console.print(f"[bold yellow]Note:[/] {escape(str(done))}", soft_wrap=True)
        return OK
    except (UsageError, ConfigError) as error:
        console.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        return USAGE
    try:
        return _train(arguments, callbacks, resumed, request.standin, console)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return INTERRUPTED
    except SourceError as error:
        console.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        return FAILURE
    except Exception as error:
        traceback.print_exc()
        console.print(f"\n[bold red]Training failed:[/] {type(error).__name__}: {escape(str(error))}", soft_wrap=True)
        return FAILURE


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


def _callbacks(request: TrainRequest, resumed: Resumption | None, console: Console) -> list[Callback]:
    """Return the callbacks that were asked for: on the command line, or else by the run that goes on.

    Raises:
        UsageError: If the run's cannot be had again.
        ConfigError: If the file has a mistake.
    """
    earlier = callbacks_of(resumed.folder) if resumed is not None and request.config is None else None
    if earlier is not None:
        return earlier
    if resumed is not None and request.config is None:
        note = f"{resumed.folder} has no callbacks on record, it gets the default ones."
        console.print(f"[bold yellow]Note:[/] {escape(note)}", soft_wrap=True)
    chosen = default_callbacks() if request.config is None else load_config(request.config)
    listed = {type(callback) for callback in chosen}
    return chosen + [item for item in protecting_callbacks() if request.protect and type(item) not in listed]


def _train(
    arguments: dict[str, Any],
    callbacks: list[Callback],
    resumed: Resumption | None,
    standin: bool,
    console: Console,
) -> int:
    name = resumed.model if resumed is not None else arguments.pop("model", None)
    model, note = load_model(name, arguments.get("task"))
    facts: dict[str, Any] = {}
    warning = ""
    if resumed is not None:
        note, arguments = resumed.note, {**resumed.arguments, **arguments}
    else:
        data, facts, warning = find_data(arguments.pop("data", None), model.task, standin, bool(model.ckpt_path))
        arguments = {**SUITABLE_ARGUMENTS.get(facts.get("data_source", ""), {}), **arguments, "data": data}
        facts["model_source"] = note or None
    if note:
        console.print(f"[bold yellow]Note:[/] {escape(note)}", soft_wrap=True)
    if warning:
        console.print(Panel(escape(warning), title="[bold]WARNING[/bold]", border_style="bold red"))
    attachment = attach(model, callbacks)
    attachment.facts.update(facts)
    with stop_on_interrupt(attachment, console), pass_signals_on(model) as passed_on:
        try:
            model.train(**{key: value for key, value in arguments.items() if key not in ("mode", "task")})
        except Exception:
            if passed_on:  # the ranks have left as they were told to
                return 128 + passed_on[0]
            raise
    _summarize(attachment, Console())
    rejected = _rejected_exports(attachment)
    for item in rejected:
        text = f"the export of {item['from']} to {item['format']} is rejected: {item['error']}."
        console.print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)
    if rejected:
        console.print(f"The training itself is safe: {escape(str(attachment.save_dir))}", soft_wrap=True)
    if attachment.stop_reason is StopReason.INTERRUPTED:
        return INTERRUPTED
    return FAILURE if rejected else OK


def _rejected_exports(attachment: Attachment) -> list[dict[str, Any]]:
    """Return what `run.json` says of exports that are not what their checkpoint is."""
    exports = manifest_of(attachment.save_dir).get("exports", []) if attachment.save_dir else []
    return [item for item in exports if item.get("passed") is False]


def _summarize(attachment: Attachment, console: Console) -> None:
    """Print the best epoch, why it stopped, and where the files are."""
    folder, history = attachment.save_dir, attachment.history
    if folder is None or history.empty:
        return
    manifest = manifest_of(folder)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    epochs, planned = int(history.index[-1]), manifest.get("args", {}).get("epochs")
    table.add_row("Epochs", f"{epochs}" + (f" of {planned}" if planned else ""))
    if "fitness" in history and history["fitness"].notna().any():
        best = float(history["fitness"].max())
        where = f"fitness {best:.4f} in epoch {history['fitness'].idxmax()}" if best else "fitness is still 0"
        table.add_row("Best", where)
    finish = finish_in(attachment.decisions)
    done = "all planned epochs are done" if finish is None else f"early, as decided: {escape(finish.message)}"
    table.add_row("Ended", attachment.stop_message or done)
    table.add_row("Run", str(folder))
    for item in manifest.get("checkpoints", []):
        if item.get("role") in ("best", "restore"):
            table.add_row(
                "Checkpoint", f"{item['file']}  ({item['monitor']} {item['value']:.5g}, epoch {item['epoch']})"
            )
    for item in manifest.get("exports", []):
        table.add_row("Export", escape(_export_in_words(item)))
    for name in ("epochs.csv", "curves.png", "run.json"):
        if (folder / "callbacks" / name).exists():
            table.add_row("Log", f"callbacks/{name}")
    console.print(Panel(table, title="yolo-cb", title_align="left", expand=False))


def _export_in_words(item: dict[str, Any]) -> str:
    if not item.get("passed", True):
        return f"{item['format']} is rejected: {item['error']}"
    fitness = item.get("fitness", {})
    proof = f"fitness {fitness['exported']:.4f}, .pt {fitness['pt']:.4f}" if fitness.get("exported") is not None else ""
    return f"export/{item['file']}  ({proof or 'not validated'})"
