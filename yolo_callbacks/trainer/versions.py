"""Which Ultralytics is installed."""

from __future__ import annotations


def ultralytics_is_at_least(*version: int) -> bool:
    """Return whether the installed Ultralytics has at least this version.

    Example:
        >>> ultralytics_is_at_least(8, 4, 140)
        True
    """
    from ultralytics import __version__
    from ultralytics.utils.checks import parse_version

    return bool(parse_version(__version__) >= version)
