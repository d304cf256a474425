import math

import pytest

from yolo_callbacks.core.checks import check_bool, check_choice, check_file_name, check_int, check_number, check_verbose


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_choice("mode", "maxx", ["min", "max"]), ValueError, "mode='maxx' is not one of 'min', 'max'"),
        (lambda: check_choice("mode", 3, ["min"]), ValueError, "mode=3 is not one of 'min'"),
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
