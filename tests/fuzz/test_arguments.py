"""Any value for any argument of any callback: accepted, or refused with one sentence that names the argument."""

import inspect
import json

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.test_every_callback import EXAMPLES, every
from tests.fuzz.effort import effort
from tests.fuzz.sentences import is_sentence
from tests.fuzz.values import ANY, Talkative, Unprintable
from yolo_callbacks import FreezeBackbone, ModelCheckpoint, Notify
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.core.lineup import configuration


def accepted(name, arguments, changed):
    """Return the callback, None if it was refused as it must be."""
    try:
        return public_callbacks()[name](**arguments)
    except (TypeError, ValueError) as error:
        text = str(error)
    assert is_sentence(text), text
    assert any(key in text for key in changed), text
    return None


def parameters(name):
    return list(inspect.signature(public_callbacks()[name]).parameters)


@every
def test_any_value_is_accepted_or_refused_with_one_sentence(name):
    @effort(20)
    @given(st.sampled_from(parameters(name)), ANY)
    def check(parameter, given):
        callback = accepted(name, {**EXAMPLES[name], parameter: given.value}, [parameter])
        if callback is not None:
            json.dumps(configuration({name: callback}), allow_nan=False)
            cloudpickle.loads(cloudpickle.dumps(callback))

    check()


@every
def test_and_so_are_several_at_once(name):
    names = parameters(name)

    @effort(5)
    @given(st.dictionaries(st.sampled_from(names), ANY, min_size=1))
    def check(values):
        accepted(name, EXAMPLES[name] | {key: given.value for key, given in values.items()}, names)

    check()


@pytest.mark.parametrize(
    ("make", "message"),
    [  # each of these once was another exception, a hang, or an error in the middle of a training
        (lambda: FreezeBackbone(1, layers=2**63), r"layers=9223372036854775808 is more layers than a model has"),
        (lambda: FreezeBackbone(1, lr_factor=10**400), r"^lr_factor=10{99}\.\.\.0+ must be a finite number > 0"),
        (lambda: FreezeBackbone(1, lr_ramp_epochs=10**5000), r"^lr_ramp_epochs=<int> must be <= "),
        (lambda: FreezeBackbone(Unprintable()), r"^until_epoch=<Unprintable> must be a whole number"),
        (lambda: FreezeBackbone(Talkative()), r"^until_epoch=first line second line must be a whole number"),
        (lambda: ModelCheckpoint("{epoch:9999999999}"), r"'\{epoch\}' takes a short format"),
        (lambda: ModelCheckpoint("{epoch!r:03d}"), r"'\{epoch\}' takes a short format"),
        (lambda: ModelCheckpoint("a\0b"), r"^filepath='a\\x00b' has characters that no file name can have"),
        (lambda: ModelCheckpoint("\ud800"), r"^filepath='\\ud800' has characters that no file name can have"),
        (lambda: ModelCheckpoint("x" * 300), r"^filepath='x+\.\.\.x+' is too long for a file name: at most 255 bytes"),
        (lambda: Notify("json://127.0.0.1:1", title="{name:d}"), r"^title='\{name:d\}' has a format that does not fit"),
        (lambda: Notify("json://127.0.0.1:1", title="{name:99999}"), r"^title='\{name:99999\}' is too long"),
    ],
)
def test_what_it_found(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
