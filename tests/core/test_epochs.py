"""Lengths in epochs: whole numbers, and shares of the planned epochs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.core.epochs import check_epochs, completed_in_words, epochs_in_words, in_epochs


@pytest.mark.parametrize("value", [1, 7, 0.5, np.int64(3), np.float32(0.25)])
def test_numbers_and_shares_are_taken_as_pythons_own(value):
    checked = check_epochs("patience", value)
    assert checked == value
    assert type(checked) in (int, float)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "patience=0 must be >= 1"),
        (0.0, ValueError, "patience=0.0 must be"),
        (1.0, ValueError, "patience=1.0 must be"),
        (float("nan"), ValueError, "patience=nan"),
        ("5", TypeError, "patience='5'"),
        (True, TypeError, "patience=True"),
    ],
)
def test_everything_else_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        check_epochs("patience", value)


@given(st.floats(0.001, 0.999), st.integers(1, 10_000))
def test_a_share_is_at_least_one_epoch_and_never_less_than_asked_for(share, planned):
    epochs = in_epochs(share, planned)
    assert 1 <= epochs <= planned
    assert epochs >= share * planned - 1e-6
    assert epochs < share * planned + 1


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_number_of_epochs_does_not_depend_on_the_plan(length, planned):
    assert in_epochs(length, planned) == length


def test_one_is_singular():
    assert (epochs_in_words(0), epochs_in_words(1), epochs_in_words(2)) == ("0 epochs", "1 epoch", "2 epochs")
    assert (completed_in_words(1), completed_in_words(3)) == ("completed 1 epoch", "completed all 3 epochs")
