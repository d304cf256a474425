"""What there is to say about a callback: purpose, parameters, and how to write it in a configuration file."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import yaml

from yolo_callbacks.callback import Callback
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.core.rule import Priority

GROUPS = ("decide", "save", "measure", "log", "notify")
_BY_PRIORITY = {
    Priority.MEASURE: "measure",
    Priority.DECIDE: "decide",
    Priority.CHECKPOINT: "save",
    Priority.REPORT: "log",
}
_NOT_BY_PRIORITY = {
    "ExportCheck": "save",
    "Notify": "notify",
    "PerClassMetrics": "measure",
    "PlatformLogger": "notify",
    "PreemptionHandler": "save",
    "RemoteMonitor": "notify",
    "ValidationSchedule": "decide",
    "Watchdog": "notify",
}
_PARAMETERS = "Args"
_HEADING = re.compile(r"^(Args|Attributes|Raises|Returns|Example|Examples|Note):\n", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a callback.

    Attributes:
        name: Its name.
        required: Whether it has no default.
        default: The default.
        meaning: What the docstring says.
    """

    name: str
    required: bool
    default: Any
    meaning: str

    @property
    def shown(self) -> str:
        """The default as Python writes it."""
        return "(required)" if self.required else repr(self.default)


@dataclass(frozen=True)
class CallbackDocs:
    """A callback from its docstring and signature.

    Attributes:
        name: Its name.
        group: Its purpose, one of `GROUPS`.
        summary: The first sentence.
        sections: The docstring without the parameters: text by heading, `""` for what comes first.
        parameters: Its parameters.
        functions: The parameters that must be functions.
    """

    name: str
    group: str
    summary: str
    sections: dict[str, str]
    parameters: list[Parameter]
    functions: tuple[str, ...] = ()

    @property
    def snippet(self) -> str:
        """The callback in a configuration file, with its defaults; empty if it can only be used from Python."""
        if any(item.required and item.name in self.functions for item in self.parameters):
            return ""
        lines = [self._line(item) for item in self.parameters if item.name not in self.functions]
        return "\n".join([f"- {self.name}" + ":" * bool(lines), *lines])

    def _line(self, item: Parameter) -> str:
        if item.required:
            return f"    {item.name}:  # required"
        value = list(item.default) if isinstance(item.default, (tuple, set, frozenset)) else item.default
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
        return f"    {item.name}: {text}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        parameters = [
            {"name": p.name, "required": p.required, "default": None if p.required else p.default, "meaning": p.meaning}
            for p in self.parameters
        ]
        plain = {"name": self.name, "group": self.group, "summary": self.summary}
        return {**plain, "parameters": parameters, "snippet": self.snippet}


def all_docs() -> list[CallbackDocs]:
    """Return every callback, by group and name."""
    docs = [docs_of(cls) for cls in public_callbacks().values()]
    return sorted(docs, key=lambda item: (GROUPS.index(item.group), item.name))


def docs_of(cls: type[Callback]) -> CallbackDocs:
    """Return what there is to say about a callback."""
    first, *rest = _HEADING.split(inspect.getdoc(cls) or "")
    sections = {"": first.strip(), **dict(zip(rest[::2], rest[1::2]))}
    meanings = _meanings(sections.pop(_PARAMETERS, ""))
    parameters = [
        Parameter(item.name, item.default is item.empty, item.default, meanings.get(item.name, ""))
        for item in inspect.signature(cls).parameters.values()
    ]
    group = _NOT_BY_PRIORITY.get(cls.__name__) or _BY_PRIORITY.get(cls.priority, "log")
    summary = first.split("\n\n")[0].replace("\n", " ").strip()
    return CallbackDocs(cls.__name__, group, summary, sections, parameters, cls.function_parameters)


def _meanings(section: str) -> dict[str, str]:
    """Read the text of an `Args:` section."""
    items = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, re.DOTALL | re.MULTILINE)
    return {name: re.sub(r"\s*Defaults to .*$", "", " ".join(text.split())) for name, text in items}
