"""Optional packages: what is missing is told in one line, when a callback is made and not an hour later."""

from __future__ import annotations

import importlib.util


def require(package: str, *, extra: str, who: str) -> None:
    """Make sure that an optional package is installed, without importing it.

    Args:
        package: Name to import, such as `"tensorboard"`.
        extra: The extra of this package that installs it.
        who: What needs it.

    Raises:
        ImportError: If it is not installed; the message is the line that installs it.

    Example:
        >>> require("json", extra="none", who="This example")
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{who} needs {package}: pip install 'yolo-callbacks[{extra}]'")
