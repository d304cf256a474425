"""`yolo-cb callbacks`: every callback with its parameters and their defaults."""

from __future__ import annotations

import inspect
import re

from rich.console import Console
from rich.table import Table

from yolo_callbacks.callback import Callback
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.reporting.summary import literal


def print_callbacks() -> None:
    """Print one table per callback."""
    console = Console()
    for name, cls in public_callbacks().items():
        console.print(literal(_summary(cls), "bold", f"\n{name} "))
        console.print(_parameters(cls))
    console.print("\nIn a configuration file: a list of names, each with its parameters indented below it.")


def _summary(cls: type[Callback]) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


def _parameters(cls: type[Callback]) -> Table:
    """Return the parameters with their defaults and their meanings from the docstring."""
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 2, 0, 2))
    table.add_column("parameter", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("meaning")
    meanings = _meanings(cls)
    for parameter in inspect.signature(cls).parameters.values():
        default = "(required)" if parameter.default is parameter.empty else repr(parameter.default)
        table.add_row(*map(literal, (parameter.name, default, meanings.get(parameter.name, ""))))
    return table


def _meanings(cls: type[Callback]) -> dict[str, str]:
    """Read the `Args:` section of a docstring."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(cls) or "", re.DOTALL | re.MULTILINE)
    if section is None:
        return {}
    items = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section.group(1), re.DOTALL | re.MULTILINE)
    return {name: re.sub(r"\s*Defaults to .*$", "", " ".join(text.split())) for name, text in items}
