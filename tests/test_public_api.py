"""What users call: a name, parameter or default that changes here changes somebody's program."""

import ast
import inspect
from enum import Enum
from importlib import import_module
from pathlib import Path

import yolo_callbacks as ycb

ON_RECORD = Path(__file__).with_name("public_api.txt")


def lines_of(name):
    """Return a public name with its parameters and defaults, and the public members of a class."""
    value = getattr(ycb, name)
    if not callable(value):
        return [name]
    if inspect.isclass(value) and issubclass(value, Enum):
        return [f"{name}.{member.name} = {member.value!r}" for member in value]
    own = [name + parameters(value)]
    # the steps and events that a callback overrides are Callback's
    if not inspect.isclass(value) or (issubclass(value, ycb.Callback) and value is not ycb.Callback):
        return own
    members = {member: item for base in reversed(_bases(value)) for member, item in vars(base).items()}
    return own + [f"{name}.{member}{parameters(item)}" for member, item in sorted(members.items()) if member[0] != "_"]


def _bases(value):
    """Return a class and those of its bases that are ours and have no public name of their own."""
    public = [getattr(ycb, name) for name in ycb.__all__]
    ours = (base for base in value.__mro__ if base.__module__.startswith("yolo_callbacks."))
    return [base for base in ours if base is value or base not in public]


def parameters(value):
    value = getattr(value, "__func__", value)
    if not (inspect.isclass(value) or inspect.isfunction(value)) or (
        inspect.isclass(value) and issubclass(value, Exception)
    ):
        return ""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    words, keyword_only = [], False
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        words.append(stars.get(parameter.kind, "") + parameter.name + default)
    return f"({', '.join(words)})"


def test_the_public_names_and_their_parameters_are_those_on_record():
    """To change one on purpose, put what this prints into public_api.txt, and the change into CHANGELOG.md."""
    found = "".join(f"{line}\n" for name in sorted(ycb.__all__) for line in lines_of(name))
    assert found == ON_RECORD.read_text(encoding="utf-8"), found


def test_every_public_name_has_a_docstring():
    assert [
        name for name in ycb.__all__ if callable(getattr(ycb, name)) and not inspect.getdoc(getattr(ycb, name))
    ] == []


def test_type_checkers_are_told_the_same_names_and_homes():
    stub = Path(ycb.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    told = {name.asname: f"yolo_callbacks.{node.module}" for node in imports for name in node.names}
    assert sorted(told) == sorted(ycb.__all__)
    for name, home in told.items():
        assert getattr(import_module(home), name) is getattr(ycb, name)
