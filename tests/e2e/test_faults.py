"""Calls of the system that fail, and some that a SIGKILL follows, chosen at random from all that change a run."""

import json

import pytest

from tests import programs
from tests.syscalls import AVAILABLE

SEED, EACH = 5, 2


@pytest.mark.skipif(not AVAILABLE, reason="the kernel of Linux hands its calls over")
def test_a_run_with_one_fault_ends_as_one_without(tmp_path):
    words = ["-m", "tests.faults", tmp_path / "faults", "--sample", EACH, "--seed", SEED]
    done = programs.run(words, timeout=900)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == 2 * EACH, done.stdout + done.stderr
    assert sum(result["met"] for result in results) >= EACH  # threads do not always make the same calls
    assert [result for result in results if result["wrong"]] == []
