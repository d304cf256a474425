"""`yolo-cb replay`: what stopping rules would have done to logged runs. Neither torch nor Ultralytics is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from yolo_callbacks.callback import Callback
from yolo_callbacks.cli.output import FAILURE, OK, USAGE, fail, print_json
from yolo_callbacks.config import ConfigError, load_config
from yolo_callbacks.inspecting.settings import runs_dir
from yolo_callbacks.replaying.replay import NothingReplayedError, replay
from yolo_callbacks.replaying.rules import PATIENCES, patience_rules
from yolo_callbacks.replaying.text import show
from yolo_callbacks.reporting.summary import literal


@dataclass(frozen=True)
class ReplayRequest:
    """What was typed."""

    runs: list[str]
    configs: list[Path]
    patience: str | None
    out: Path | None
    details: bool
    as_json: bool = False


def replay_command(request: ReplayRequest) -> int:
    """Replay, and return the exit code."""
    errors = Console(stderr=True)
    try:
        report = replay(request.runs or runs_dir(), _rules(request))
    except NothingReplayedError as error:
        for item in error.skipped if request.details else ():
            errors.print(literal(f"  {item}"), soft_wrap=True)
        return fail(error, USAGE)
    except (ConfigError, ValueError) as error:
        return fail(error, USAGE)
    console, folder = Console(), None
    if request.out is not None:  # before anything is printed: a pager may close the pipe early
        try:
            folder = report.save(request.out)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            return fail(f"{request.out} cannot be written: {getattr(error, 'strerror', error)}", FAILURE)
    if request.as_json:
        print_json(report.to_json())
        return OK
    show(report, console, details=request.details)
    if folder is not None:
        console.print(literal(f"\nWritten to {folder}"), soft_wrap=True)
    return OK


def _rules(request: ReplayRequest) -> dict[str, list[Callback]]:
    """Return the requested rules.

    Raises:
        ConfigError: If a file has a mistake.
        ValueError: If a patience is invalid.
    """
    asked = request.patience if request.patience or request.configs else PATIENCES
    rules = patience_rules(asked or "")
    for file in request.configs:
        name = file.name if sum(other.name == file.name for other in request.configs) == 1 else str(file)
        rules[name] = load_config(file)
    return rules
