"""`yolo-cb callbacks`: every callback on one screen, or one in full."""

from __future__ import annotations

import re
from textwrap import dedent

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from yolo_callbacks.cli.callback_docs import GROUPS, CallbackDocs, all_docs
from yolo_callbacks.cli.output import OK, fail, print_json, screen
from yolo_callbacks.reporting.summary import literal
from yolo_callbacks.support.checks import nearest

_READABLE = 100  # characters of a line of text


def callbacks_command(name: str | None, as_json: bool) -> int:
    """List the callbacks, or show one, and return the exit code."""
    docs = all_docs()
    if name is None:
        if as_json:
            print_json([item.to_json() for item in docs])
        else:
            _show_all(docs, screen())
        return OK
    found = next((item for item in docs if item.name.lower() == name.lower()), None)
    if found is None:
        known = [item.name for item in docs]
        return fail(f"'{name}' is not a callback{nearest(name, known)}; 'yolo-cb callbacks' lists them all")
    if as_json:
        print_json(found.to_json())
    else:
        _show(found, screen())
    return OK


def _show_all(docs: list[CallbackDocs], console: Console) -> None:
    names = max(len(item.name) for item in docs)
    for group in GROUPS:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(width=names, no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for item in docs:
            if item.group == group:
                table.add_row(literal(item.name), literal(item.summary.rstrip(".").replace("`", "")))
        console.print(literal(group.capitalize(), "bold"))
        console.print(Padding(table, (0, 0, 0, 2)))
    console.print("\nOne in full, with a snippet to paste: yolo-cb callbacks EarlyStopping", style="dim")


def _show(docs: CallbackDocs, console: Console) -> None:
    from rich.markdown import Markdown

    console = Console(width=min(console.width, _READABLE), highlight=False)
    console.print(literal(docs.name, "bold cyan"), literal(f"({docs.group})", "dim"))
    console.print(Markdown(docs.sections.get("", "")))
    console.print("\nParameters", style="bold")
    for item in docs.parameters:
        console.print(
            literal(f"{item.name} = {item.shown}" if not item.required else f"{item.name} (required)", "cyan")
        )
        console.print(Padding(literal(item.meaning), (0, 0, 0, 4)))
    if not docs.parameters:
        console.print("none")
    for heading, text in docs.sections.items():
        if heading:
            console.print(f"\n{heading}", style="bold")
            for item_text in _items(text) if heading == "Raises" else [_code(text)]:
                console.print(literal(item_text), soft_wrap=heading != "Raises")
    console.print("\nIn a configuration file" + (", with the defaults" if docs.snippet else ""), style="bold")
    if docs.snippet:
        console.print(literal(docs.snippet), soft_wrap=True)
    else:
        console.print(literal(f"not possible: {', '.join(docs.functions)} is a function, so use it from Python"))


def _items(text: str) -> list[str]:
    """Return the entries of a section, each in one line."""
    return [" ".join(item.split()) for item in re.split(r"\n(?=\S)", dedent(text).strip())]


def _code(text: str) -> str:
    """Return an example without its Markdown fence."""
    return "\n".join(line for line in dedent(text).strip().splitlines() if not line.startswith("```"))
