"""What a shell can complete: run directories, names of callbacks, and Ultralytics' arguments. Imports nothing heavy."""

from __future__ import annotations

import re
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

_MOST = 200  # runs; a shell shows no more
_ARGUMENT = re.compile(r"^(\w+): *([^#\n]*?) *(?:# *(?:\([^)]*\) *)?(.*))?$", re.MULTILINE)


def complete_run(incomplete: str) -> list[str]:
    """Return the run directories that begin with this text; of the runs at hand if there is none."""
    from yolo_callbacks.inspecting.overview import find_runs
    from yolo_callbacks.inspecting.settings import runs_dir

    folder = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    root = folder if incomplete and folder != Path() and folder.is_dir() else runs_dir()
    return [str(path) for path in islice(find_runs(root), _MOST) if str(path).startswith(incomplete)]


def complete_callback(incomplete: str) -> list[tuple[str, str]]:
    """Return the callbacks, each with what it does."""
    from yolo_callbacks.cli.callback_docs import all_docs

    return [(docs.name, docs.summary) for docs in all_docs() if docs.name.startswith(incomplete)]


def complete_argument(incomplete: str) -> list[tuple[str, str]]:
    """Return Ultralytics' arguments with their meanings: `--imgsz`, or `imgsz=640` with the default."""
    package = find_spec("ultralytics")
    if package is None or package.origin is None:
        return []
    text = (Path(package.origin).parent / "cfg" / "default.yaml").read_text(encoding="utf-8")
    found = []
    for name, default, meaning in _ARGUMENT.findall(text):
        if name not in ("mode", "task"):
            found.append((f"--{name}" if incomplete.startswith("-") else f"{name}={default}", meaning))
    return [item for item in found if item[0].startswith(incomplete)]


class TrainCommand(TyperCommand):
    """`yolo-cb train`, which takes Ultralytics' arguments as options, too."""

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return our own options, then Ultralytics'."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            return found
        known = {item.value for item in found}
        (extra,) = (parameter for parameter in self.params if parameter.name == "extra")
        return [*found, *(item for item in extra.shell_complete(ctx, incomplete) if item.value not in known)]
