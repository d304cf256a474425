"""What the reading commands have in common: tables, JSON, CSV, and errors of one line."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from yolo_callbacks.reporting.summary import in_one_line, literal
from yolo_callbacks.support.numbers import encode_number

OK, FAILURE, USAGE = 0, 1, 2
_WIDE = 400  # characters of a line that no terminal will wrap


def screen() -> Console:
    """Return standard output: as wide as its terminal; in a pipe as wide as it needs, unless COLUMNS is set."""
    unlimited = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(width=_WIDE if unlimited else None, highlight=False)


def fail(message: object, code: int = USAGE) -> int:
    """Print an error and return the exit code."""
    Console(stderr=True).print(literal(in_one_line(str(message)), "bold red", "Error:"), soft_wrap=True)
    return code


def note(console: Console, text: object) -> None:
    """Print a remark below a table."""
    console.print(literal(text), style="dim")


def plain_table() -> Table:
    """Return a table without lines."""
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)


def print_json(data: Any) -> None:
    """Print strict JSON; NaN and infinity become strings, as in the journal."""
    sys.stdout.write(json.dumps(_encoded(data), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    sys.stdout.write(text.getvalue())


def _encoded(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _encoded(value) for key, value in data.items()}
    return [_encoded(item) for item in data] if isinstance(data, (list, tuple)) else encode_number(data)


def age(seconds: float) -> str:
    """Return an age in one short word.

    Example:
        >>> age(12), age(200), age(9000), age(400_000), age(6e7)
        ('12s', '3m', '2h', '4d', '1y')
    """
    for unit, length in (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def size(number: float) -> str:
    """Return bytes in words.

    Example:
        >>> size(812), size(15_300), size(12_400_000), size(3.2e9)
        ('812 B', '15 kB', '12 MB', '3.2 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.1f} {unit}" if unit == "GB" and number < 10 else f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
