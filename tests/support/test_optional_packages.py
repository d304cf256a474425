"""Packages that not everybody needs."""

import sys

import pytest

from yolo_callbacks.support.optional_packages import require


def test_an_installed_one_is_not_imported():
    sys.modules.pop("this", None)  # a module that prints when it is imported
    require("this", who="Somebody")
    assert "this" not in sys.modules


def test_a_missing_one_is_named_with_the_command_that_installs_it():
    with pytest.raises(ImportError, match=r"^Mine needs no_such_package: pip install no_such_package$"):
        require("no_such_package", who="Mine")
