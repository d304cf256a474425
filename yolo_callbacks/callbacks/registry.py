"""The built-in callbacks by name, for configuration files, the command line and tests."""

from __future__ import annotations

from importlib import import_module
from inspect import isclass
from pkgutil import iter_modules

from yolo_callbacks import callbacks
from yolo_callbacks.callback import Callback


def public_callbacks() -> dict[str, type[Callback]]:
    """Return every public callback class of this package by name, in alphabetical order.

    Example:
        >>> "EarlyStopping" in public_callbacks()
        True
    """
    modules = [import_module(f"{callbacks.__name__}.{module.name}") for module in iter_modules(callbacks.__path__)]
    found = {
        name: item
        for module in modules
        for name, item in vars(module).items()
        if isclass(item) and issubclass(item, Callback) and item.__module__ == module.__name__ and name[0] != "_"
    }
    return dict(sorted(found.items()))
