"""PlatformLogger's arguments; what it sends is tested on the real trainer, in tests/e2e/test_platform.py."""

import pytest

from yolo_callbacks import PlatformLogger


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrics": "recall"}, TypeError, "metrics='recall' must be a list of names, or a mapping"),
        ({"metrics": 3}, TypeError, "metrics=3 must be a list of names"),
        ({"metrics": []}, ValueError, r"metrics=\[\] must have at least one number"),
        ({"metrics": {}}, ValueError, r"metrics=\{\} must have at least one number"),
        ({"metrics": ["a", "a"]}, ValueError, r"metrics=\['a', 'a'\] has 'a' twice"),
        ({"metrics": [1]}, TypeError, "must have strings as names, not 1"),
        ({"metrics": {" ": "recall"}}, TypeError, "must have strings as names, not ' '"),
        ({"metrics": {"F2": 0.5}}, TypeError, r"metrics\['F2'\]=0.5 must be the name of a number or a function"),
        ({"prefix": None}, TypeError, "prefix=None must be a string such as 'custom/', not NoneType"),
    ],
)
def test_wrong_arguments_fail_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        PlatformLogger(**arguments)


def test_what_it_was_built_with_is_kept():
    chosen = {"F1": len, "patience": "EarlyStopping/wait"}
    assert PlatformLogger(chosen, prefix="").get_config() == {"metrics": chosen, "prefix": ""}
    assert PlatformLogger(iter(["recall"])).metrics == ["recall"]
