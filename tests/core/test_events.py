"""The names of events, which Ultralytics itself never checks."""

import pytest
from ultralytics.utils.callbacks.base import default_callbacks

from yolo_callbacks.core.events import EVENTS, TRAIN_EVENTS, VAL_EVENTS, check_events


def test_ultralytics_knows_every_event():
    """Its own list also has those of predicting and exporting, and some that it never sends."""
    assert set(EVENTS) <= set(default_callbacks)
    assert not set(TRAIN_EVENTS) & set(VAL_EVENTS)
    assert {name for name in default_callbacks if name.startswith("on_val")} == set(VAL_EVENTS)


def test_methods_named_after_events_pass():
    check_events(type("Mine", (), {name: lambda self, trainer: None for name in EVENTS})())
    check_events(type("Mine", (), {"once": None, "_on_nothing": None})())


@pytest.mark.parametrize("where", ["own", "inherited"])
def test_a_misspelled_one_is_named_with_the_nearest(where):
    base = type("Mine", (), {"on_train_epochs_end": lambda self, trainer: None})
    cls = base if where == "own" else type("Mine", (base,), {})
    with pytest.raises(
        ValueError, match=r"Mine\.on_train_epochs_end is not an event .*did you mean 'on_train_epoch_end'"
    ):
        check_events(cls())
