"""Configuration files: any tree, any mutation of a good file, any bytes give callbacks or one sentence."""

import inspect

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.test_every_callback import EXAMPLES
from tests.fuzz.damage import DAMAGE, damaged
from tests.fuzz.effort import effort
from tests.fuzz.sentences import is_sentence
from tests.fuzz.values import ODD_TEXT
from yolo_callbacks import Callback, ConfigError, load_config
from yolo_callbacks.callbacks.registry import public_callbacks

KNOWN = public_callbacks()
PARAMETERS = sorted({name for cls in KNOWN.values() for name in inspect.signature(cls).parameters})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.dates(),
    st.sampled_from([text for text in ODD_TEXT if "\ud800" not in text]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner),
    max_leaves=5,
)
TREES = st.one_of(
    st.lists(
        st.one_of(
            st.sampled_from(sorted(KNOWN)),
            st.dictionaries(
                st.sampled_from(sorted(KNOWN)),
                st.one_of(VALUES, st.dictionaries(st.sampled_from(PARAMETERS), VALUES, max_size=4)),
                max_size=2,
            ),
            VALUES,
        ),
        max_size=4,
    ),
    VALUES,
)
GOOD = yaml.safe_dump(
    [
        {name: {key: value for key, value in arguments.items() if not callable(value)}}
        for name, arguments in EXAMPLES.items()
        if name not in ("LearningRateScheduler", "MLflow", "Notify")  # the last two take long to import
    ]
).encode()


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "callbacks.yaml"

    def read(data):
        path.write_bytes(data)
        try:
            callbacks = load_config(path)
        except ConfigError as error:
            assert str(error).startswith(str(path)), str(error)
            assert is_sentence(str(error)), str(error)
            return str(error).removeprefix(str(path))
        assert all(isinstance(callback, Callback) for callback in callbacks)
        return callbacks

    return read


def test_any_tree(load):
    @effort(25)
    @given(TREES)
    def check(tree):
        load(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))

    check()


def test_any_damage(load):
    assert len(load(GOOD)) == len(EXAMPLES) - 3

    @effort(25)
    @given(DAMAGE)
    def check(steps):
        load(damaged(GOOD, steps))

    check()


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20))


@pytest.mark.parametrize(
    ("text", "message"),
    [  # each of these once was a traceback, several lines, or took all memory
        ("[" * 5000, ": nested too deeply for a list of callbacks"),
        ("- A\0B\n", ": not valid YAML: unacceptable character #x0000: special characters are not allowed in"),
        ("- EarlyStopping:\n    patience: 2020-02-30\n", ", line 2: day is out of range for month"),
        ("- EarlyStopping:\n    patience: &a [*a]\n", ", line 1: more than 10,000 values are no list of callbacks"),
        ("- EarlyStopping:\n    ? {a: 1}\n    : 2\n", ", line 2: EarlyStopping has no parameter ''"),
        (f"- MLflow:\n    tags: {{{LAUGHS.replace(chr(10), ', ')}}}\n", ", line 1: more than 10,000 values"),
    ],
)
def test_what_it_found(text, message, load):
    assert load(text.encode()).startswith(message)
