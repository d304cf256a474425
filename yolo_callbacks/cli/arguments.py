"""Ultralytics' arguments on the command line: `key=value` or `--key value`, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolo_callbacks.support.checks import nearest

_EXTRA_KEYS = ("save_dir", "augmentations")  # Ultralytics accepts these, although they have no default


class UsageError(Exception):
    """The command line cannot be understood; the message is one sentence."""


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Read `key=value`, `--key value`, `--key=value` and bare `--key` (which means True).

    Values are converted as Ultralytics converts them: numbers, True, False, None and lists.

    Raises:
        UsageError: If a word is none of these, or a key is given twice.
    """
    from ultralytics.cfg import smart_value

    values: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        is_option = word.startswith("--") and len(word) > 2
        key, has_value, text = word.removeprefix("--").partition("=")
        if not is_option and not has_value:
            raise UsageError(f"'{word}' is not an argument: write key=value or --key value")
        if not has_value:
            text = "True" if not waiting or waiting[0].startswith("--") else waiting.pop(0)
        key = key.replace("-", "_")
        if key in values:
            raise UsageError(f"'{key}' is given twice")
        values[key] = smart_value(text)
    return values


def check_arguments(values: dict[str, Any], own: Sequence[str]) -> None:
    """Check that Ultralytics knows every argument and accepts every value.

    Args:
        values: The arguments.
        own: Names of our own options, for the suggestion of the nearest match.

    Raises:
        UsageError: If an argument is unknown, or a value is not accepted.
    """
    from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg

    for key in values:
        if key not in DEFAULT_CFG_DICT and key not in _EXTRA_KEYS:
            raise UsageError(
                f"'{key}' is not an argument of Ultralytics{nearest(key, [*DEFAULT_CFG_DICT, *own])}; "
                "the list is at https://docs.ultralytics.com/usage/cfg"
            )
    if not isinstance(values.get("imgsz", 640), (int, list, tuple)):
        raise UsageError(f"imgsz={values['imgsz']} must be a number of pixels such as 640")
    if values.get("mode", "train") != "train":
        raise UsageError(f"mode={values['mode']} cannot be used with 'yolo-cb train'")
    try:
        get_cfg(overrides=dict(values))
    except (TypeError, ValueError, SyntaxError, AssertionError) as error:
        raise UsageError(str(error).strip()) from error


def read_cfg(file: str) -> dict[str, Any]:
    """Return the arguments of an Ultralytics configuration file.

    Raises:
        UsageError: If it cannot be read.
    """
    from ultralytics.utils import YAML

    try:
        return dict(YAML.load(file))
    except (OSError, ValueError, AssertionError) as error:
        raise UsageError(f"cfg={file} cannot be read: {error}") from error
