"""Trainings killed at the worst moments and at random ones, each compared with one that was not."""

import json

import pytest

from tests import programs
from tests.soak import MOMENTS

SEED, KILLS = 3, 2


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak") / "soak"
    words = ["-m", "tests.soak", folder, "--moments", "--kills", KILLS, "--seed", SEED]
    done = programs.run(words, timeout=900)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(MOMENTS) + KILLS, done.stdout + done.stderr
    return {result["name"]: result for result in map(json.loads, lines)}


@pytest.mark.parametrize("name", [*MOMENTS, *range(1, KILLS + 1)])
def test_a_killed_and_resumed_training_ends_as_one_that_was_not(name, results):
    assert results[name]["differences"] == []
