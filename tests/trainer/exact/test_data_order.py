"""Loaders of Ultralytics that are stopped between two passes, and others that go on from there."""

import io
import random

import pytest
import torch
from torch.utils.data import DistributedSampler
from ultralytics.data.build import InfiniteDataLoader, seed_worker

from yolo_callbacks.trainer.exact.data_order import DataOrder
from yolo_callbacks.trainer.exact.random_state import generators, set_generators


class Numbers(torch.utils.data.Dataset):
    """Gives its index, and a number that is drawn when it is asked for."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return {"index": index, "drawn": random.random()}


def collate(samples):
    return {"index": [sample["index"] for sample in samples], "drawn": [sample["drawn"] for sample in samples]}


def loader(workers=0, ranks=0, **options):
    dataset, generator = Numbers(), torch.Generator()
    generator.manual_seed(7)
    random.seed(3), torch.manual_seed(3)
    sampler = DistributedSampler(dataset, num_replicas=ranks, rank=1, seed=5) if ranks else None
    options |= {"prefetch_factor": 4} if workers else {}
    return InfiniteDataLoader(
        dataset, batch_size=2, shuffle=sampler is None, num_workers=workers, sampler=sampler, collate_fn=collate,
        worker_init_fn=seed_worker, generator=generator, **options,
    )  # fmt: skip


def passes(loader, first, last):
    seen = []
    for epoch in range(first, last):
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(epoch)
        seen.append([(batch["index"], batch["drawn"]) for batch in loader])
    return seen


def plain(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"ranks": 2}], ids=str)
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("done", [1, 3])
def test_a_loader_goes_on_where_another_one_stood(options, workers, done, request):
    alone = loader(workers, **options)
    expected = passes(alone, 0, 6)
    alone.close()

    stopped = loader(workers, **options)
    order = DataOrder(stopped, ships=True)
    assert passes(stopped, 0, done) == expected[:done]
    state, drawn = plain(order.state()), plain(generators())
    stopped.close()

    for second in (done + 1, 6):  # stopped once more after one pass, and not
        other = loader(workers, **options)
        order = DataOrder(other, ships=True)
        order.restore(state, lambda drawn=drawn: set_generators(drawn))
        assert passes(other, done, second) == expected[done:second]
        other.close()


def test_a_loader_that_was_not_asked_for_anything_begins_like_any_other():
    untouched = DataOrder(loader(), ships=True).state()
    assert untouched == {"begun": False, "reset": False}
    other = loader()
    DataOrder(other, ships=True).restore(untouched)
    assert passes(other, 0, 2) == passes(loader(), 0, 2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("before", [2, 3])
def test_a_loader_that_begins_anew_does_so_in_the_other_one_too(workers, before):
    """Closing mosaic makes the trainer begin anew: in the run that is left alone once, in a resumed one once more."""

    def left_alone(loader, last):
        return [*passes(loader, 0, 2), *(loader.reset() or passes(loader, 2, last))]

    alone = loader(workers)
    expected = left_alone(alone, 5)
    alone.close()
    stopped = loader(workers)
    order = DataOrder(stopped, ships=True)
    assert (passes(stopped, 0, 2) if before == 2 else left_alone(stopped, 3)) == expected[:before]
    state, drawn = plain(order.state()), plain(generators())
    stopped.close()
    other = loader(workers)
    DataOrder(other, ships=True).restore(state, lambda: set_generators(drawn))
    other.reset()
    assert passes(other, before, 5) == expected[before:]
    other.close()


def test_where_a_loader_stands_within_a_pass_cannot_be_told():
    stopped = loader()
    order = DataOrder(stopped, ships=True)
    next(iter(stopped))
    assert order.state() is None
    assert order.batches_in_pass == 1
    order.begin_pass()
    assert order.batches_in_pass == 0


def test_a_loader_is_left_as_it_was():
    watched = loader()
    order = DataOrder(watched, ships=True)
    passes(watched, 0, 1)
    order.release()
    assert type(watched.batch_sampler.sampler.sampler).__name__ == "RandomSampler"
    assert not {"_get_iterator", "reset"} & vars(watched).keys()
    assert watched.collate_fn is collate
    assert passes(watched, 1, 3) == passes_after_one()


def passes_after_one():
    return passes(loader(), 0, 3)[1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iterator_that_was_made_with_the_loader_is_made_anew_with_the_same_numbers(workers):
    """As by older versions of Ultralytics."""
    alone, stopped, other = (loader(workers) for _ in range(3))
    expected = passes(alone, 0, 4)
    alone.close()
    random.seed(3), torch.manual_seed(3)
    stopped.iterator = stopped._get_iterator()
    order = DataOrder(stopped, ships=True)
    assert passes(stopped, 0, 2) == expected[:2]
    state, drawn = plain(order.state()), plain(generators())
    stopped.close()
    other.iterator = other._get_iterator()
    DataOrder(other, ships=True).restore(state, lambda: set_generators(drawn))
    assert passes(other, 2, 4) == expected[2:]
    other.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_something_may_be_waited_for_before_workers_are_started(workers):
    calls = []
    watched = loader(workers)
    DataOrder(watched, ships=True, before_workers=lambda: calls.append(watched.iterator))
    passes(watched, 0, 2)
    watched.reset()
    passes(watched, 0, 1)
    watched.close()
    assert calls == ([None, None] if workers else [])
