"""A rank that sleeps holds up the other one: each finds it by itself, and rank 0 says which rank it is."""

import json
import re


def test_the_rank_that_is_behind_is_named(cancelled):
    folder = cancelled.folder / "run" / "callbacks"
    lines = [line for line in cancelled.output.splitlines() if "Watchdog: epoch" in line]
    assert len(lines) == 2, cancelled.output
    where = r"on_train_batch_start \(distributed/callbacks\.py:\d+\)"
    assert re.search(rf"no batch has ended for 3\.\d s; .*; rank 1 is behind, in {where}; stacks: ", lines[0]), lines
    assert "waiting for the other ranks; rank 1" in lines[0]
    assert re.search(r"epoch 1 of 200, .*: went on after (8|9|1\d)(\.\d)? s", lines[1]), lines
    assert sorted(path.name for path in folder.glob("stall*")) == ["stall-1-rank-1.txt", "stall-1.txt"]
    assert "in on_train_batch_start" in (folder / "stall-1-rank-1.txt").read_text()
    assert "_engine_run_backward" in (folder / "stall-1.txt").read_text()
    assert [path.name for path in folder.glob("heartbeat*")] == ["heartbeat.json"]
    beat = json.loads((folder / "heartbeat.json").read_text())
    assert (beat["status"], beat["rank"], beat["ranks"]) == ("stopped", 0, 2)
