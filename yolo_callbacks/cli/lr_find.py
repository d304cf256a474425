"""`yolo-cb lr-find`: a learning-rate range test, its picture, and the command that uses its suggestion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from yolo_callbacks.cli.arguments import UsageError, check_arguments, parse_arguments
from yolo_callbacks.cli.output import FAILURE, OK, fail
from yolo_callbacks.cli.sources import SUITABLE_ARGUMENTS, SourceError, find_data, load_model
from yolo_callbacks.lr_finding import LRFindResult, lr_find
from yolo_callbacks.reporting.summary import literal

_OWN_OPTIONS = ("data", "model", "epochs", "min-lr", "max-lr", "num-training", "mode", "picture")
_TEST = ("min_lr", "max_lr", "num_training", "early_stop_threshold")


@dataclass(frozen=True)
class LRFindRequest:
    """What was typed: our own options, and the remaining words, which are for Ultralytics."""

    data: str | None
    model: str | None
    epochs: int | None
    min_lr: float
    max_lr: float
    num_training: int
    mode: str
    early_stop_threshold: float
    picture: Path
    extra: list[str]


def lr_find_command(request: LRFindRequest) -> int:
    """Run the test, print what it found, and return the exit code."""
    console = Console(stderr=True)
    try:
        given = parse_arguments(request.extra)
        check_arguments(given, _OWN_OPTIONS)
        typed = {name: getattr(request, name) for name in ("data", "model", "epochs")}
        given = {**given, **{name: value for name, value in typed.items() if value is not None}}
        task, name = given.pop("task", None), given.pop("model", None)
        model, note = load_model(name, task)
        data, facts, _ = find_data(given.pop("data", None), model.task, standin=True)
        arguments = {**SUITABLE_ARGUMENTS.get(facts.get("data_source", ""), {}), **given, "verbose": False}
        test: dict[str, Any] = {key: getattr(request, key) for key in _TEST}
        found = lr_find(model, data=data, picture=request.picture, mode=request.mode, **test, **arguments)
    except (UsageError, ValueError) as error:
        return fail(error)
    except SourceError as error:
        return fail(error, FAILURE)
    if note:
        console.print(literal(note, "bold yellow", "Note:"), soft_wrap=True)
    for line in _lines(found, request):
        console.print(literal(line), soft_wrap=True)
    return OK if found.suggestion is not None else FAILURE


def _lines(found: LRFindResult, request: LRFindRequest) -> list[str]:
    """Return what is printed: suggestion, picture, what `optimizer=auto` does, and the command to train with it."""
    lines = [f"{found.message[0].upper()}{found.message[1:]}.", f"Picture: {found.picture}", f"{found.auto}."]
    if found.suggestion is not None:
        words = ["yolo-cb train"]
        words += [f"--{name} {value}" for name in ("data", "model", "epochs") if (value := getattr(request, name))]
        words += [word for word in request.extra if not word.startswith(("optimizer=", "lr0=", "verbose="))]
        lines.append(f"Train with it: {' '.join(words)} optimizer={found.optimizer} lr0={found.suggestion:.2g}")
    return lines
