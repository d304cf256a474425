"""Which process this is. What several say to each other is in tests/distributed."""

import pytest
import ultralytics.utils

from yolo_callbacks.trainer import ranks


@pytest.mark.parametrize(
    ("number", "rank", "main", "worker"), [(-1, 0, True, False), (0, 0, True, True), (1, 1, False, True)]
)
def test_who_this_is(number, rank, main, worker, monkeypatch):
    monkeypatch.setattr(ultralytics.utils, "RANK", number)
    assert (ranks.rank(), ranks.is_main(), ranks.is_worker()) == (rank, main, worker)


@pytest.mark.parametrize("world_size", [0, 1, 2])
def test_without_others_a_value_stays_the_same_object(world_size):
    value = object()
    assert ranks.broadcast(value, world_size) is value


def test_a_trainer_that_launches_others_says_so():
    assert ranks.launches_workers(type("Trainer", (), {"ddp": True})())
    assert not ranks.launches_workers(type("Trainer", (), {"ddp": False})())
    assert not ranks.launches_workers(None)
