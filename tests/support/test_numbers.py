"""Numbers of any library, in strict JSON and in words."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.support.numbers import all_finite, decode_number, duration, encode_number, finite_or_none, plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor(2), 2),
        (torch.tensor(True), True),
        ("x", "x"),
        (None, None),
    ],
)
def test_scalars_become_pythons_own(value, expected):
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_what_is_no_scalar_stays():
    array = np.zeros(3)
    assert plain(array) is array


@given(st.floats())
def test_every_number_survives_strict_json(number):
    text = json.dumps(encode_number({"a": {"b": number}}), allow_nan=False)
    back = decode_number(json.loads(text)["a"]["b"])
    assert back == number or (math.isnan(back) and math.isnan(number))


def test_what_strict_json_cannot_hold_is_none():
    assert [finite_or_none(value) for value in (1.5, math.nan, math.inf)] == [1.5, None, None]


def test_all_finite_looks_at_tensors_alone():
    assert all_finite([torch.ones(3), "text", 5])
    assert all_finite([])
    assert not all_finite([torch.ones(3), torch.tensor([1.0, math.nan])])
    assert not all_finite([torch.tensor([math.inf])])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 0 min"), (90_000, "25 h 0 min")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
