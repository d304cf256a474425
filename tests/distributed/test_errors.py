"""An error on one rank ends the training on all of them, soon and with its text."""

import functools

import pytest

from tests.distributed.callbacks import failing, missing_metric, unpicklable
from yolo_callbacks.run_dir.journal import read_journal

CASES = [(1, "on_fit_epoch_end"), (1, "on_train_epoch_start"), (0, "decide"), (0, "on_train_batch_end")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"rank {case[0]} in {case[1]}")
def failed(request, start):
    rank, where = request.param
    return start(functools.partial(failing, rank=rank, where=where), {"name": "run"}).wait(), rank


def test_an_error_on_one_rank_ends_all_of_them_at_once(failed):
    launch, rank = failed
    assert launch.returncode != 0
    assert f"RuntimeError: deliberate error on rank {rank}" in launch.output
    assert launch.ended - float((launch.folder / "failed-at").read_text()) < 30
    assert not launch.left_behind
    assert max(line["epoch"] for rank in (0, 1) for line in launch.witness(rank)) <= 2
    journal = read_journal(launch.folder / "run" / "callbacks" / "journal.jsonl")
    assert [entry.record.epoch for entry in journal.entries] in ([1], [1, 2])


def test_a_metric_that_the_run_has_not_ends_all_ranks_before_the_first_epoch(start):
    launch = start(missing_metric, {"name": "run"}).wait()
    assert launch.returncode != 0
    assert "UnknownMetricError: EarlyStopping: " in launch.output
    assert not launch.left_behind
    assert not list(launch.folder.glob("*rank*"))


def test_a_callback_that_cannot_travel_to_the_ranks_is_named_before_they_start(start):
    launch = start(unpicklable, {"name": "run"}).wait()
    assert launch.returncode != 0
    assert "debug command" not in launch.output  # Ultralytics says it before a launch
    assert "HoldsALock" in launch.output.strip().splitlines()[-1]
