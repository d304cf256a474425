"""The summary of a run: the result, why it ended, where its files are, and how to continue.

The command line, the Python API and notebooks show the same. Names, paths and messages are shown literally, never read
as markup.
"""

from __future__ import annotations

import html
import io
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

from yolo_callbacks.core.decision import Decision, Stop
from yolo_callbacks.core.entry import Entry, best_fitness
from yolo_callbacks.core.eta import Eta
from yolo_callbacks.core.findings import Finding
from yolo_callbacks.core.finishing import finish_in
from yolo_callbacks.core.record import History
from yolo_callbacks.core.system_findings import SystemFold
from yolo_callbacks.run_dir.recovery import may_be_resumed
from yolo_callbacks.support.numbers import duration

if TYPE_CHECKING:
    from rich.text import Text

_WIDE = 160  # characters of a panel in a file: paths and commands are not wrapped
_DEFAULT_MODELS = ("yolo26n.pt", "yolo26n.yaml", "")
_SIGNALS_FROM = 128  # an exit code above it names a signal


@dataclass(frozen=True)
class Report:
    """What is known of a run, live or from its files.

    Attributes:
        folder: The run directory.
        entries: Its epochs.
        decisions: Its decisions.
        stop: What ended it early, None for nothing.
        manifest: Its `run.json`.
        ended: Whether it has ended.
    """

    folder: Path
    entries: Sequence[Entry] = ()
    decisions: Iterable[Decision] = ()
    stop: Stop | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    ended: bool = True

    @property
    def status(self) -> str:
        """How it ended in one word, as in `run.json`."""
        return str(self.manifest.get("status", "running"))

    @property
    def worth_showing(self) -> bool:
        """Whether there is anything to report: an error before the first epoch explains itself."""
        return bool(self.entries) or self.status in ("interrupted", "preempted")

    @property
    def resume_command(self) -> str | None:
        """The command that resumes it; None if there is nothing to resume."""
        if not self.ended or not self.worth_showing:
            return None
        if not may_be_resumed(self.folder, self.manifest, bool(self.entries)):
            return None
        words = ["yolo-cb", "train", "--resume", str(self.folder)]
        return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines as pairs of a label and a text."""
        rows = [("Best", _best_in_words(self.entries)), ("Ended", self._end()), ("Epochs", self._epochs())]
        rows += [("System", f"epoch {item.epoch}: {item.message}") for item in self._findings()]
        rows.append(("Run", str(self.folder)))
        for item in self.manifest.get("checkpoints", []):
            if item.get("role") in ("best", "restore") and item.get("value") is not None:
                value = f"{item.get('monitor')} {item['value']:.5g}, epoch {item.get('epoch')}"
                rows.append(("Checkpoint", f"{item['file']}  ({value})"))
        rows += [("Export", _export_in_words(item)) for item in self.manifest.get("exports", [])]
        if logs := _logs(self.folder / "callbacks"):
            rows.append(("Logs", f"callbacks/ ({', '.join(logs)})"))
        if (command := self.resume_command) is not None:
            rows.append(("Resume", command))
        if self.ended and self.manifest.get("data_source"):  # generated data: the user has other data to train on
            rows.append(("Next", f"the same on your own data: {self._on_own_data()}"))
        return [(in_one_line(name), in_one_line(text)) for name, text in rows if text]

    def _findings(self) -> Iterable[Finding]:
        """Return what limited the run, if `SystemMonitor` has measured it."""
        return History(records=(entry.record for entry in self.entries)).fold(SystemFold()).findings.values()

    def _epochs(self) -> str:
        if not self.entries:
            return "none completed"
        last = self.entries[-1].record
        planned = f" of {last.whole_epochs}" if last.whole_epochs else ""
        return f"{last.epoch}{planned}" + (f" in {duration(last.elapsed)}" if last.elapsed else "")

    def _end(self) -> str:
        if not self.ended:
            eta = self.manifest.get("eta")
            return f"not yet, {Eta(eta['seconds'], eta['at_most'])} left" if eta else "not yet"
        if self.stop is not None:
            return f"early: {self.stop.message.removeprefix('stop, ')}"
        if self.status in ("failed", "interrupted", "running"):
            return _error_in_words(self.status, str(self.manifest.get("error") or ""))
        finish = finish_in(self.decisions, self.entries[-1].record.epoch if self.entries else 0)
        if finish is not None:
            return f"early: {finish.message}"
        return completed(self.entries[-1].record.epoch) if self.entries else ""

    def _on_own_data(self) -> str:
        model = Path(str(self.manifest.get("model") or "")).name
        return "yolo-cb train --data your-data.yaml" + ("" if model in _DEFAULT_MODELS else f" --model {model}")


def completed(epochs: int) -> str:
    """Return the sentence for a run that was not ended early."""
    return f"completed all {epochs} epochs" if epochs > 1 else "completed 1 epoch"


def as_text(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines as plain text, indented."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)


def as_html(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return lines as a table for a notebook."""
    cells = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<div><b>{html.escape(title)}</b></div>" + (f"<table>{cells}</table>" if cells else "")


def as_panel(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines in a frame that suits standard output: its width, its colors, and ASCII if it needs that."""
    from rich.box import ASCII, ROUNDED
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    terminal = sys.stdout is not None and sys.stdout.isatty()
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    target = io.StringIO()
    console = Console(file=target, force_terminal=terminal, width=None if terminal else _WIDE, legacy_windows=False)
    box = ROUNDED if _can_encode("╭─╮│╰╯", encoding) else ASCII
    console.print(Panel(table, title=Text("yolo-callbacks"), title_align="left", expand=False, box=box))
    return target.getvalue().rstrip("\n").encode(encoding, "replace").decode(encoding)


def literal(text: object, style: str = "", head: str = "") -> Text:
    """Return a text that rich shows literally.

    Args:
        text: The text.
        style: A rich style: of the head, or of the text if there is no head.
        head: A word to put before the text.
    """
    from rich.text import Text

    shown = _printable(str(text))
    return Text.assemble((head, style), " ", shown) if head else Text(shown, style)


def _best_in_words(entries: Sequence[Entry]) -> str:
    best = best_fitness(entries)
    if best is not None:
        return f"fitness {best[1]:.4f} in epoch {best[0]}"
    measured = any(math.isfinite(entry.record.metrics.get("fitness", math.nan)) for entry in entries)
    return "none, fitness is still 0" if measured else "none, fitness was not measured" if entries else ""


def _error_in_words(status: str, error: str) -> str:
    if status == "running":
        return "unknown: the process was killed, or is still running"
    if error == "KeyboardInterrupt":
        return "interrupted (Ctrl-C)"
    kind, _, code = error.partition(": ")
    if kind == "SystemExit" and code.isdigit():
        known = {_SIGNALS_FROM + item.value: item.name for item in signal.Signals}
        return f"interrupted ({known.get(int(code), f'exit code {code}')})"
    return f"{status}: {error}" if error else status


def _export_in_words(item: Mapping[str, Any]) -> str:
    if not item.get("passed", True):
        return f"{item['format']} was rejected: {item['error']}"
    fitness = item.get("fitness", {})
    proof = f"fitness {fitness['exported']:.4f}, .pt {fitness['pt']:.4f}" if fitness.get("exported") is not None else ""
    return f"export/{item['file']}  ({proof or 'not validated'})"


def _logs(folder: Path) -> list[str]:
    """Return the files that people open."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in files if path.suffix in (".csv", ".png", ".json"))


def in_one_line(text: str) -> str:
    """Return a text without line breaks and whatever else a terminal would obey."""
    return _printable(" ".join(text.splitlines()))


def _printable(text: str) -> str:
    """Replace control characters and lone surrogates, which a terminal would obey or could not write."""
    return "".join("\ufffd" if category(letter) in ("Cc", "Cs") and letter != "\n" else letter for letter in text)


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
