import math

import numpy as np
import pytest
import torch

from yolo_callbacks.core.epochs import check_epochs, check_patience
from yolo_callbacks.core.layer_patterns import check_layers
from yolo_callbacks.support.checks import (
    as_number,
    check_bool,
    check_choice,
    check_file_name,
    check_int,
    check_names,
    check_number,
    check_verbose,
)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_choice("mode", "maxx", ["min", "max"]), ValueError, "mode='maxx' is not one of 'min', 'max'"),
        (lambda: check_choice("mode", 3, ["min"]), ValueError, "mode=3 is not one of 'min'"),
        (lambda: check_names("x", "car", "a list of names"), TypeError, "x='car' must be a list of names"),
        (lambda: check_names("x", ["car", 1], "a list of names"), TypeError, "x=['car', 1] must be a list of names"),
        (lambda: check_names("x", 3, "a list of names", one=True), TypeError, "x=3 must be a list of names"),
        (lambda: check_bool("flag", 1), TypeError, "flag=1 must be True or False, not int"),
        (lambda: check_int("n", 1.5, minimum=1), TypeError, "n=1.5 must be a whole number >= 1, not float"),
        (lambda: check_int("n", True, minimum=1), TypeError, "n=True must be a whole number"),
        (lambda: check_int("n", 0, minimum=1), ValueError, "n=0 must be >= 1"),
        (lambda: check_number("x", "1", minimum=0), TypeError, "x='1' must be a number >= 0, not str"),
        (lambda: check_number("x", None), TypeError, "x=None must be a number, not None"),
        (lambda: check_number("x", math.nan), ValueError, "x=nan must be a finite number"),
        (lambda: check_number("x", 1, minimum=0, maximum=1, exclusive=True), ValueError, "> 0 and < 1"),
        (lambda: check_verbose(-1), ValueError, "verbose=-1 must be >= 0"),
        (lambda: check_file_name("f", "a/b.csv", suffix=".csv"), ValueError, "bare file name that ends in '.csv'"),
        (lambda: check_file_name("f", "b.txt", suffix=".csv"), ValueError, "bare file name"),
        (lambda: check_file_name("f", None, suffix=".csv"), TypeError, "f=None must be a file name"),
    ],
)
def test_bad_values(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_values():
    assert check_verbose(True) == 1
    assert check_number("x", 3) == 3.0
    assert check_int("n", 4, minimum=4) == 4
    assert check_names("x", ("car", "bus"), "a list of names") == ["car", "bus"]
    assert check_names("x", "car", "a list of names", one=True) == ["car"]
    assert check_names("x", [], "a list of names") == []


@pytest.mark.parametrize("as_theirs", [np.int64, np.uint8, np.array, torch.tensor])
def test_whole_numbers_of_numpy_and_torch_are_whole_numbers(as_theirs):
    five = as_theirs(5)
    checked = [check_int("n", five, minimum=1), check_epochs("e", five), check_patience(five), check_verbose(five)]
    assert [(type(value), value) for value in checked] == [(int, 5)] * 4
    assert check_layers(five) == check_layers(5)
    assert check_layers([five, "model.7"]) == ("model.5", "model.7")
    with pytest.raises(ValueError, match="must be >= 6"):
        check_int("n", five, minimum=6)


@pytest.mark.parametrize("as_theirs", [np.float32, np.float64, np.array, torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(as_theirs):
    half = as_theirs(0.5)
    checked = [check_number("x", half), check_epochs("e", half), check_patience(half)]
    assert [(type(value), value) for value in checked] == [(float, 0.5)] * 3
    with pytest.raises(TypeError, match="whole number"):
        check_int("n", half, minimum=0)
    with pytest.raises(ValueError, match="must be a finite number"):
        check_number("x", as_theirs(math.inf))


def test_truth_of_numpy_is_truth_and_no_number():
    assert check_bool("flag", np.bool_(True)) is True
    assert check_verbose(np.bool_(True)) == 1
    with pytest.raises(TypeError, match="must be a number"):
        check_number("x", np.bool_(True))
    for check in (lambda value: check_number("x", value), lambda value: check_int("x", value, minimum=0)):
        with pytest.raises(TypeError):
            check(np.array([1, 2]))


def test_what_a_callback_says_of_an_epoch_is_a_number():
    assert as_number("x", np.float32(0.5)) == 0.5
    assert type(as_number("x", np.float32(0.5))) is float
    assert math.isnan(as_number("x", np.float32("nan")))
    assert type(as_number("x", 3)) is int
    for value in (None, "many", [1], torch.zeros(2)):
        with pytest.raises(TypeError, match=r"^Mine\.counters.*it must be a number"):
            as_number("Mine.counters()['x']", value)
