"""Optional packages: what is missing is told in one line, when a callback is made and not an hour later."""

from __future__ import annotations

import importlib.util


def require(package: str, *, who: str) -> None:
    """Make sure that an optional package is installed, without importing it.

    The message names the package itself: that can be installed wherever this one came from, and an extra cannot.

    Args:
        package: Name to import, and to install, such as `"tensorboard"`.
        who: What needs it.

    Raises:
        ImportError: If it is not installed; the message is the line that installs it.

    Example:
        >>> require("json", who="This example")
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{who} needs {package}: pip install {package}")
