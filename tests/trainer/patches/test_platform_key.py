"""The Platform's key and its signed URLs are not in the log, and all else is as it was."""

import logging

import pytest
from ultralytics.utils import SETTINGS

from yolo_callbacks.trainer.patches.platform_key import hide_key, keys

KEY = "ul_0123456789abcdef"


@pytest.fixture
def logger(monkeypatch):
    """The logger of Ultralytics, filtered by us alone."""
    found = logging.getLogger("ultralytics")
    monkeypatch.setattr(found, "filters", [])
    monkeypatch.setenv("ULTRALYTICS_API_KEY", KEY)
    hide_key()
    return found


def shown(logger, module, message, *arguments):
    """Return what is logged of a message of one of Ultralytics' modules."""
    record = logging.LogRecord("ultralytics", logging.WARNING, f"/their/{module}.py", 1, message, arguments, None)
    assert logger.filter(record)
    return record.getMessage()


@pytest.mark.parametrize(
    ("variable", "setting", "expected"),
    [
        (KEY, "another key", [KEY]),
        (None, KEY, [KEY]),
        ("", KEY, [KEY]),
        (None, "", []),
        (f"{KEY}\n", "", [f"{KEY}\n", KEY, f"{KEY}\\n"]),  # as a header of an HTTP library quotes it
        ("1234567", "", []),  # would be found in any text
        ("12345678", "", ["12345678"]),
        ("1234567\n", "", ["1234567\n", "1234567\\n"]),
    ],
)
def test_the_key_in_every_form(variable, setting, expected, monkeypatch):
    monkeypatch.delenv("ULTRALYTICS_API_KEY", raising=False)
    if variable is not None:
        monkeypatch.setenv("ULTRALYTICS_API_KEY", variable)
    monkeypatch.setitem(SETTINGS, "api_key", setting)
    assert keys() == expected


@pytest.mark.parametrize(
    ("module", "message", "expected"),
    [
        ("anywhere", f"refused: Bearer {KEY}!", "refused: Bearer ***!"),
        ("anywhere", "https://docs.org/?page=1", "https://docs.org/?page=1"),
        ("platform", "https://store.org/best.pt?sig=1", "https://store.org/best.pt?***"),
        ("uploads", "failed with url: /m/best.pt?sig=1 (it is", "failed with url: /m/best.pt?*** (it is"),
        ("uploads", "failed with url: /m/best.pt (it is", "failed with url: /m/best.pt (it is"),
    ],
)
def test_what_is_shown(module, message, expected, logger):
    assert shown(logger, module, message) == expected
    assert shown(logger, module, "%s", message) == expected


def test_a_message_without_secrets_keeps_its_arguments(logger):
    record = logging.LogRecord("ultralytics", logging.INFO, "/their/trainer.py", 1, "%s of %s", (1, 2), None)
    assert logger.filter(record)
    assert (record.msg, record.args) == ("%s of %s", (1, 2))


def test_a_message_that_does_not_fit_its_arguments_is_left_to_logging(logger):
    record = logging.LogRecord("ultralytics", logging.INFO, "/their/trainer.py", 1, "%d", ("one",), None)
    assert logger.filter(record)
    assert (record.msg, record.args) == ("%d", ("one",))


def test_the_filter_is_added_once(logger):
    hide_key()
    assert len(logger.filters) == 1
