"""Two ranks finish in the same epoch with the same rates, also when they die on the way and are resumed."""

import functools

import pytest

from tests.distributed.finishing import finishing
from yolo_callbacks import Finish

PLANNED, TRIGGER, END = 9, 3, 6


@pytest.fixture(scope="module")
def cut(start):
    """A training that dies right after mosaic has closed, in its last epoch but for one."""
    arguments = {"name": "run", "epochs": PLANNED, "close_mosaic": 2, "warmup_epochs": 0, "optimizer": "SGD"}
    launch = start(functools.partial(finishing, dies_in=END), arguments).wait()
    assert launch.returncode != 0
    assert "deliberate error" in launch.output
    return launch


@pytest.fixture(scope="module")
def resumed(start, cut):
    launch = start(finishing, model=cut.folder / "run" / "weights" / "last.pt", resume=True).wait()
    assert launch.returncode == 0, launch.output
    return launch


def test_every_rank_finishes_alike(cut, resumed):
    for launch, epochs in ((cut, [1, 2, 3, 4, 5]), (resumed, [6])):
        assert [line["epoch"] for line in launch.witness(0)] == epochs
        assert launch.witness(0) == launch.witness(1)


def test_rate_mosaic_and_end_of_every_epoch(cut, resumed):
    lines = cut.witness(1) + resumed.witness(1)
    assert [line["planned"] for line in lines] == [PLANNED] * TRIGGER + [END] * 3
    assert [line["mosaic"] for line in lines] == [True] * 4 + [False] * 2
    first, final = 1 - TRIGGER / PLANNED * 0.99, 0.01
    schedule = [1, 1 - 1 / PLANNED * 0.99, 1 - 2 / PLANNED * 0.99, first, (first + final) / 2, final]
    assert [line["rates"][0] for line in lines] == pytest.approx([0.01 * value for value in schedule], rel=1e-12)


def test_the_parent_reads_how_it_ended(resumed):
    told = resumed.answers[0]
    assert told["history"].index.tolist() == [1, 2, 3, 4, 5, 6]
    assert told["stop_reason"] is None
    (finish,) = told["decisions"]
    assert isinstance(finish, Finish)
    assert (finish.epoch, finish.end_epoch, finish.planned_epochs) == (TRIGGER, END, PLANNED)
