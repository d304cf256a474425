"""Values of any type that somebody may pass, and what a refusal of one must look like."""

import datetime
import decimal
import enum
import fractions
import math
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = 1


class Unprintable:
    """An object whose own text is a mistake."""

    def __repr__(self):
        raise RuntimeError("no text")


class Talkative:
    def __repr__(self):
        return "first line\nsecond line"


class Given:
    """A value and a text of it that cannot fail: Hypothesis shows what it has tried."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        try:
            return f"Given({self.value!r})"[:300]
        except Exception as error:
            return f"Given({type(self.value).__name__} whose text is {error!r})"


def _one_of(*values):
    return st.sampled_from([Given(value) for value in values]).map(lambda given: given.value)


def _recursive():
    found = [1]
    found.append(found)
    return found


ODD_TEXT = [
    "",
    " ",
    "\n",
    "a\nb",
    "\0",
    "\ud800",
    "e\u0301\u200f\u202e",
    "\U0001f600",
    "x" * 100_000,
    "{",
    "{}",
    "{0.a}",
]
ODD_TEXT += [
    "{epoch}",
    "{epoch:z}",
    "../up",
    "/abs",
    "a\\b",
    "nan",
    "1e3",
    "auto",
    "true",
    "val/*",
    "[",
    "*",
    "%s",
    "~",
]
TEXT = st.one_of(st.sampled_from(ODD_TEXT), st.text(max_size=12), st.text(st.characters(), max_size=5))
NUMBERS = st.one_of(
    _one_of(0, 1, -1, 2, True, False, 10**400, -(10**400), 10**5000, 2**63, 0.0, -0.0, 0.5, 1.0, 1e308, 5e-324),
    _one_of(math.nan, math.inf, -math.inf, 1j, decimal.Decimal("0.5"), decimal.Decimal("sNaN")),
    _one_of(fractions.Fraction(1, 3), np.int64(3), np.float32(0.25), np.float64("nan"), np.bool_(True)),
    _one_of(np.str_("a"), np.datetime64("2020-01-01"), np.uint8(200), np.float16(math.inf)),
    st.integers(),
    st.floats(),
)
OBJECTS = _one_of(
    *(None, ..., NotImplemented, object(), object, int, Colour.RED, print, len, Unprintable(), Talkative()),
    *(Path("here"), Path("/"), datetime.timedelta(1), range(0), range(3), slice(1), b"", b"bytes", bytearray(b"a")),
    *(np.zeros((30, 3)), np.array([]), np.array("a"), np.array(3), torch.zeros(2, 2), torch.tensor(2)),
    *(torch.tensor(0.5), torch.tensor(True), np.array([None]), _recursive(), frozenset(), {1}, lambda: 1),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, TEXT, OBJECTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=6), st.integers(), st.none()), inner, max_size=3),
        st.builds(iter, st.lists(inner, max_size=2)),
    ),
    max_leaves=6,
)
ANY = VALUES.map(Given)
