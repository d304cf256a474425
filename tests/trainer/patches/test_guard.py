"""An error in an integration is told once, without secrets, and never ends a training."""

import pytest
from ultralytics.utils import SETTINGS

from yolo_callbacks.trainer.patches.guard import Guard


def failing(error):
    def function(source):
        raise error

    return function


def test_what_works_is_called_and_nothing_is_said(said):
    seen = []
    assert Guard("Somebody").attempt(seen.append, "trainer", "on_val_end")
    Guard("Somebody").call("on_val_end", seen.append, "validator")
    assert seen == ["trainer", "validator"]
    assert said.lines == []


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("", "Somebody: on_val_end failed; training continues: KeyError: 'id'"),
        ("the run is not tracked", "Somebody: on_val_end failed; the run is not tracked: KeyError: 'id'"),
    ],
)
def test_what_fails_is_told_with_what_follows_from_it(outcome, sentence, said):
    assert not Guard("Somebody").attempt(failing(KeyError("id")), None, "on_val_end", outcome)
    assert said.lines == [("WARNING", sentence)]


def test_each_kind_of_error_is_told_once_per_event_and_guard(said):
    guard = Guard("A")
    for number in range(3):  # another text each time, but the same kind
        guard.call("on_val_end", failing(KeyError(number)), None)
    guard.call("on_val_end", failing(TypeError("x")), None)
    guard.call("on_train_end", failing(KeyError("y")), None)
    Guard("B").call("on_val_end", failing(KeyError("z")), None)
    assert [text.replace("failed; training continues: ", "") for text in said.warnings] == [
        "A: on_val_end KeyError: 0",
        "A: on_val_end TypeError: x",
        "A: on_train_end KeyError: 'y'",
        "B: on_val_end KeyError: 'z'",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_process_comes_out(error):
    with pytest.raises(error):
        Guard("A").attempt(failing(error()), None, "on_val_end")


def test_neither_the_key_of_the_platform_nor_a_login_is_shown(said, monkeypatch):
    monkeypatch.delenv("ULTRALYTICS_API_KEY", raising=False)
    monkeypatch.setitem(SETTINGS, "api_key", "ul_0123456789\n")
    text = "illegal header b'Bearer ul_0123456789\\n' for https://me:pa55@host/a?sig=s1gned"
    Guard("A").attempt(failing(ValueError(text)), None, "on_val_end")
    (told,) = said.warnings
    assert "illegal header" in told
    assert not [secret for secret in ("ul_0123456789", "pa55", "s1gned") if secret in told]
