"""Trainings killed at the worst moments and at random ones, each compared with one that was not."""

import json
import os
import subprocess
import sys

import pytest

from tests.soak import MOMENTS

SEED, KILLS = 3, 2


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    folder = tmp_path_factory.mktemp("soak") / "soak"
    words = [sys.executable, "-m", "tests.soak", str(folder), "--moments", "--kills", str(KILLS), "--seed", str(SEED)]
    done = subprocess.run(words, env=inherited, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(MOMENTS) + KILLS, done.stdout + done.stderr
    return {result["name"]: result for result in map(json.loads, lines)}


@pytest.mark.parametrize("name", [*MOMENTS, *range(1, KILLS + 1)])
def test_a_killed_and_resumed_training_ends_as_one_that_was_not(name, results):
    assert results[name]["differences"] == []
