"""Trainings that were killed and resumed: every number is that of a plain Ultralytics run that was left alone."""

import json
import os
import subprocess
import sys

import pytest

from tests.exact import CASES, SUITE

TRIED = [(case, moment) for case, moments in SUITE.items() for moment in moments]
TRIED += [(case, "never") for case in SUITE if not CASES[case].callbacks]  # those change the training


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    words = [sys.executable, "-m", "tests.exact", str(tmp_path_factory.mktemp("exact") / "exact"), "--suite"]
    done = subprocess.run(words, env=inherited, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stdout + done.stderr
    return {(line["case"], line["killed"]): line for line in lines}


@pytest.mark.parametrize(("case", "moment"), TRIED, ids=[f"{case}: {moment}" for case, moment in TRIED])
def test_every_number_is_that_of_a_run_that_was_left_alone(case, moment, results):
    assert results[case, moment]["differences"] == []
