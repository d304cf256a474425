"""Layers that are frozen at first learn the same on two ranks, and the same as on no other day, once they learn."""

import pytest

from tests.distributed.freezing import frozen_at_first


@pytest.fixture(scope="module")
def launch(start):
    launch = start(
        frozen_at_first, {"name": "run", "epochs": 4, "optimizer": "AdamW", "warmup_epochs": 0}, model="yolo26n.yaml"
    ).wait()
    assert launch.returncode == 0, launch.output
    return launch


def column(launch, rank, what):
    return [line[what] for line in launch.witness(rank)]


def test_the_backbone_is_frozen_on_both_ranks_and_learns_after_that(launch):
    for rank in (0, 1):
        assert column(launch, rank, "epoch") == [1, 2, 3, 4]
        first, second, third, fourth = column(launch, rank, "backbone")
        assert first == second
        assert len({second, third, fourth}) == 3
        assert len(set(column(launch, rank, "rest"))) == 4


def test_both_ranks_have_the_same_weights_after_every_epoch(launch):
    for part in ("backbone", "rest"):
        assert column(launch, 0, part) == column(launch, 1, part)


def test_statistics_are_kept_on_both_ranks(launch):
    """Once they go on, each rank has those of its own pictures, as always."""
    (first, second, *learning), other = column(launch, 0, "statistics"), column(launch, 1, "statistics")
    assert [first, second] == other[:2]
    assert first == second
    assert second not in learning
    assert learning != other[2:]


def test_both_ranks_take_the_rate_that_was_decided(launch):
    for rank in (0, 1):
        assert column(launch, rank, "rate")[2:] == [0.5, 1.0]
    assert launch.answers[0]["history"]["FreezeBackbone/lr_factor"].tolist() == [0.0, 0.0, 0.5, 1.0]


def test_both_ranks_leave_out_the_same_validations(launch):
    assert launch.answers[0]["history"]["validated"].tolist() == [True, False, False, True]
    for rank in (0, 1):
        assert column(launch, rank, "validated") == [None, True, False, False]
