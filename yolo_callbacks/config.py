"""Callbacks from a YAML file. Every mistake is reported with file, line and nearest match."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from yolo_callbacks.callback import Callback
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.core.lineup import FUNCTION, check_together
from yolo_callbacks.support.checks import nearest, quoted

_LARGEST = 10_000  # values in a file


class ConfigError(ValueError):
    """A configuration file has a mistake. The message has the file, the line and the nearest match.

    Example:
        ```python
        try:
            callbacks = ycb.load_config("callbacks.yaml")
        except ycb.ConfigError as error:
            print(error)  # callbacks.yaml, line 2: EarlyStopping has no parameter 'patiense' (did you mean 'patience'?)
        ```
    """


def load_config(path: str | os.PathLike[str]) -> list[Callback]:
    """Build the callbacks that a YAML file lists.

    The file is a list. Each item is the name of a callback, with or without parameters:

    ```yaml
    - EarlyStopping:
        monitor: mAP50-95
        patience: 30
    - CSVLogger
    ```

    Only plain YAML is read (`yaml.SafeLoader`), so a file cannot contain code. A callback that needs a function, such
    as `LearningRateScheduler`, can only be used from Python.

    Args:
        path: Path of the file.

    Returns:
        The callbacks, in the order of the file.

    Raises:
        ConfigError: If the file cannot be read, or anything in it is wrong.

    Example:
        ```python
        ycb.attach(model, ycb.load_config("callbacks.yaml") + [MyCallback()])
        ```
    """
    file = Path(path)
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}, line {mark.line + 1}" if mark else f"{file}"
        raise ConfigError(f"{where}: not valid YAML: {_problem(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply for a list of callbacks") from error
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{_at(file, node)}: the file must be a list of callbacks, such as '- EarlyStopping'")
    if _size(node, {}) > _LARGEST:  # by aliases of aliases, a few lines can stand for more than any memory holds
        raise ConfigError(f"{_at(file, node)}: more than {_LARGEST:,} values are no list of callbacks")
    callbacks = [_build(file, item) for item in node.value]
    try:
        check_together(callbacks)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    return callbacks


def restore_callbacks(configuration: Mapping[str, Mapping[str, Any]]) -> list[Callback]:
    """Build callbacks again from their configuration in `run.json`.

    Args:
        configuration: Class and parameters by label, as `core.lineup.configuration` returns them.

    Raises:
        ConfigError: If one of them is a user's own class, or has a function as a parameter.
    """
    known, callbacks = public_callbacks(), []
    for item in configuration.values():
        name, values = item["class"], {key: value for key, value in item.items() if key != "class"}
        if name not in known:
            raise ConfigError(f"{name} is not a callback of this package")
        function = next((key for key, value in values.items() if str(value).startswith(FUNCTION)), None)
        if function is not None:
            raise ConfigError(f"{name} had a function as '{function}', which run.json cannot hold")
        try:
            callbacks.append(known[name](**values))
        except (TypeError, ValueError, ImportError) as error:
            raise ConfigError(f"{name}: {error}") from error
    return callbacks


def _build(file: Path, item: yaml.Node) -> Callback:
    """Build one callback from an item of the file."""
    if isinstance(item, yaml.ScalarNode):
        name_node, parameters = item, None
    elif isinstance(item, yaml.MappingNode) and len(item.value) == 1:
        name_node, parameters = item.value[0]
    else:
        raise ConfigError(_malformed(file, item))
    known = public_callbacks()
    name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
    if name not in known:
        raise ConfigError(
            f"{_at(file, name_node)}: {quoted(name)} is not a callback{nearest(name, known)}; available: "
            f"{', '.join(known)}"
        )
    values = _parameters(file, name, parameters, known[name])
    try:
        return known[name](**values)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{_line_of(file, parameters or name_node, error)}: {name}: {error}") from error


def _malformed(file: Path, item: yaml.Node) -> str:
    """Return the error message for an item that is neither a name nor a name with parameters."""
    if isinstance(item, yaml.MappingNode) and len(item.value) > 1 and _is_null(item.value[0][1]):
        (name, _), (parameter, _) = item.value[:2]
        return (
            f"{_at(file, parameter)}: {quoted(parameter.value)} is not indented below '{name.value}:': indent "
            f"the parameters "
            f"of {name.value} by four spaces"
        )
    return f"{_at(file, item)}: an item must be 'Name', or 'Name:' with its parameters below, indented by four spaces"


def _parameters(file: Path, name: str, node: yaml.Node | None, cls: type[Callback]) -> dict[str, Any]:
    """Return the parameters of a callback, after checking their names."""
    signature = inspect.signature(cls).parameters
    given: dict[str, Any] = {}
    if node is not None and not _is_null(node):
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{_at(file, node)}: the parameters of {name} must be 'parameter: value' lines")
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if key not in signature:
                raise ConfigError(
                    f"{_at(file, key_node)}: {name} has no parameter {quoted(key)}{nearest(key, signature)}; it has "
                    f"{', '.join(signature)}"
                )
            if key in given:
                raise ConfigError(f"{_at(file, key_node)}: {name} has '{key}' twice")
            given[key] = _value(file, value_node)
    missing = next((key for key, p in signature.items() if p.default is p.empty and key not in given), None)
    if missing is not None:
        only_in_python = missing in cls.function_parameters
        what = "a function, so it can only be used from Python" if only_in_python else "given a value"
        raise ConfigError(f"{_at(file, node)}: {name} needs '{missing}' to be {what}")
    return given


def _value(file: Path, node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"{_at(file, node)}: {_problem(error)}") from error
    except (ValueError, TypeError, OverflowError) as error:  # such as the 30th of February
        raise ConfigError(f"{_at(file, node)}: {_problem(error)}") from error
    finally:
        loader.dispose()
    if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
        return _exponent(value)
    return value


def _problem(error: Exception) -> str:
    """Return what is wrong in one line."""
    return " ".join(str(getattr(error, "problem", None) or error).split())


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for; more than `_LARGEST` if it contains itself."""
    if id(node) not in known:
        known[id(node)] = _LARGEST + 1  # until it is known
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        nodes = (part for item in parts for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in nodes)
    return known[id(node)]


def _exponent(text: str) -> str | float:
    """Read `1e-3` as a number; to YAML 1.1 only `1.0e-3` is one."""
    mantissa, letter, exponent = text.lower().partition("e")
    if letter and mantissa.lstrip("+-").replace(".", "", 1).isdigit() and exponent.lstrip("+-").isdigit():
        return float(text)
    return text


def _is_null(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


def _line_of(file: Path, node: yaml.Node, error: Exception) -> str:
    """Return the line of the parameter that the message begins with, or else that of the item."""
    name = str(error).split("=", 1)[0]
    pairs: Mapping[str, yaml.Node] = (
        {str(key.value): key for key, _ in node.value} if isinstance(node, yaml.MappingNode) else {}
    )
    return _at(file, pairs.get(name, node))


def _at(file: Path, node: yaml.Node | None) -> str:
    return f"{file}, line {node.start_mark.line + 1}" if node is not None else f"{file}"
