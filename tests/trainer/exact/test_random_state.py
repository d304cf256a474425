import io
import random
from types import SimpleNamespace

import numpy as np
import torch

from yolo_callbacks.trainer.exact.random_state import dataset_state, generators, set_dataset_state, set_generators
from yolo_callbacks.trainer.exact.worker_state import pack, unpack


def through_a_file(state):
    """Return a state as it comes back from a file that may hold plain data only."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def draw():
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()]


def test_generators_go_on_where_they_stood():
    draw()  # a first Gaussian number leaves a second one behind
    state = through_a_file(generators())
    expected = [draw() for _ in range(700)]  # more than a Mersenne Twister holds
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    set_generators(state)
    assert [draw() for _ in range(700)] == expected
    assert torch.initial_seed() != 1


class Transform(SimpleNamespace):
    """Like those of Albumentations, which cannot be a dependency: each has generators of its own."""


def with_generators(seed, *transforms):
    own = {"seed": seed, "random_generator": np.random.default_rng(seed), "py_random": random.Random(seed)}
    return Transform(transforms=list(transforms), **own)


def tree(seed):
    compose = with_generators(seed, with_generators(seed + 1), with_generators(None))
    wrapper = Transform(transform=compose, p=1.0)
    return Transform(transforms=[Transform(transforms=None), wrapper, Transform(transform=None), "x"])


def leaves(transforms):
    compose = transforms.transforms[1].transform
    return [compose, *compose.transforms]


def draw_all(transforms):
    return [(leaf.seed, leaf.random_generator.random(), leaf.py_random.random()) for leaf in leaves(transforms)]


def test_transforms_with_generators_of_their_own_go_on_where_they_stood():
    dataset, other = SimpleNamespace(transforms=tree(5)), SimpleNamespace(transforms=tree(9))
    draw_all(dataset.transforms)
    set_dataset_state(other, through_a_file(dataset_state(dataset)))
    assert draw_all(other.transforms) == draw_all(dataset.transforms)


class Dataset:
    """Remembers pictures as Ultralytics' data sets do."""

    transforms = None

    def __init__(self):
        self.ims = [None] * 9
        self.buffer = []

    def load_image(self, index):
        if self.ims[index] is None:
            self.ims[index] = index
            self.buffer.append(index)


def test_the_pictures_for_mosaics_are_the_same_in_the_same_order():
    dataset, other = Dataset(), Dataset()
    for index in (5, 2, 8):
        dataset.load_image(index)
    for index in (8, 1):  # something has looked at pictures before
        other.load_image(index)
    set_dataset_state(other, through_a_file(dataset_state(dataset)))
    assert other.buffer == [5, 2, 8]
    assert [index for index, image in enumerate(other.ims) if image is not None] == [2, 5, 8]


def test_a_data_set_without_any_of_it_has_no_state():
    state = dataset_state(SimpleNamespace())
    assert state == {"mosaic": False, "buffer": [], "transforms": []}
    set_dataset_state(SimpleNamespace(), state)


def test_a_worker_sends_a_tensor_of_bytes():
    packed = pack({"generators": generators(), "buffer": [1, 2]})
    assert packed.dtype is torch.uint8
    assert unpack(packed)["buffer"] == [1, 2]
