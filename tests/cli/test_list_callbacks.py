"""`yolo-cb callbacks`: all on one screen, or one in full."""

import inspect
import json
import re

import pytest
from typer.testing import CliRunner

from tests.cli.helpers import plain
from tests.conformance.test_every_callback import EXAMPLES
from yolo_callbacks.callbacks.registry import public_callbacks
from yolo_callbacks.cli.callback_docs import GROUPS, all_docs
from yolo_callbacks.cli.main import app
from yolo_callbacks.config import load_config


def show(*words, width=80):
    result = CliRunner().invoke(app, ["callbacks", *words], env={"COLUMNS": str(width)})
    return result.exit_code, plain(result.output)


@pytest.mark.parametrize(("width", "most"), [(80, 60), (120, 40)])
def test_all_are_grouped_on_one_screen(width, most):
    code, shown = show(width=width)
    lines = shown.splitlines()
    assert (code, len(lines) <= most) == (0, True)
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "…" not in shown
    names = [line.split()[0] for line in lines[:-2] if re.match(r"  \w", line)]
    assert sorted(names) == sorted(public_callbacks())
    assert [line.rstrip() for line in lines[:-2] if line[0] != " "] == [group.capitalize() for group in GROUPS]


@pytest.mark.parametrize("name", list(public_callbacks()))
def test_one_in_full_loses_nothing_at_80_columns(name):
    code, shown = show(name)
    assert code == 0
    assert "…" not in shown
    words = re.sub(r"\W", "", shown)
    for parameter in inspect.signature(public_callbacks()[name]).parameters.values():
        default = "(required)" if parameter.default is parameter.empty else f"= {parameter.default!r}"
        assert re.sub(r"\W", "", f"{parameter.name} {default}") in words
    (docs,) = (item for item in all_docs() if item.name == name)
    for parameter in docs.parameters:
        assert parameter.meaning
        assert "Defaults to" not in parameter.meaning
        assert re.sub(r"\W", "", parameter.meaning) in words


@pytest.mark.parametrize("docs", all_docs(), ids=lambda docs: docs.name)
def test_the_snippet_is_what_a_configuration_file_takes(docs, tmp_path):
    if docs.functions:
        assert docs.snippet == ""
        assert "use it from Python" in show(docs.name)[1]
        return
    text = docs.snippet
    for item in docs.parameters:
        if item.name in EXAMPLES[docs.name]:  # what is required, and what must be a URL
            text = re.sub(rf"{item.name}:.*", f"{item.name}: {json.dumps(EXAMPLES[docs.name][item.name])}", text)
    assert "# required" not in text
    (tmp_path / "callbacks.yaml").write_text(text)
    (callback,) = load_config(tmp_path / "callbacks.yaml")
    assert type(callback).__name__ == docs.name


def test_a_name_in_any_case_and_a_wrong_one():
    assert show("earlystopping")[1].startswith("EarlyStopping (decide)")
    code, shown = show("EarlyStoping")
    assert (code, "did you mean 'EarlyStopping'?" in shown) == (2, True)


def test_json():
    every = json.loads(show("--json")[1])
    assert sorted(item["name"] for item in every) == sorted(public_callbacks())
    one = json.loads(show("CSVLogger", "--json")[1])
    assert (one["group"], one["parameters"][1]["default"]) == ("log", ",")
    assert one["snippet"] == "- CSVLogger:\n    filename: epochs.csv\n    separator: ','"
