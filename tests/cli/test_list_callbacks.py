"""The list of callbacks with their parameters."""

import inspect
import re

from typer.testing import CliRunner

from tests.cli.helpers import plain
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.cli.main import app


def test_callbacks_lists_every_parameter_with_its_default():
    shown = plain(CliRunner().invoke(app, ["callbacks"], env={"COLUMNS": "160"}).stdout)
    for name, cls in public_callbacks().items():
        assert name in shown
        for parameter in inspect.signature(cls).parameters.values():
            default = "(required)" if parameter.default is parameter.empty else repr(parameter.default)
            assert re.search(rf"^\s+{parameter.name}\s+{re.escape(default)}\s", shown, re.MULTILINE), parameter


def test_what_a_parameter_means_stands_beside_it_without_its_default():
    shown = " ".join(plain(CliRunner().invoke(app, ["callbacks"], env={"COLUMNS": "400"}).stdout).split())
    assert "every_n_epochs 1 Make a copy every N epochs, >= 1." in shown
    assert "Defaults to" not in shown
