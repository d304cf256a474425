"""Optional packages: a missing one is reported in one line when a callback is created, not an hour later."""

from __future__ import annotations

import importlib.util


def require(package: str, *, who: str) -> None:
    """Make sure that an optional package is installed, without importing it.

    The message names the package, not an extra of ours: that works wherever this package was installed from.

    Args:
        package: The name to import and to install, such as `"tensorboard"`.
        who: What needs it.

    Raises:
        ImportError: If it is not installed; the message is the line that installs it.

    Example:
        >>> require("json", who="This example")
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{who} needs {package}: pip install {package}")
