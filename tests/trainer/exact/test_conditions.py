from types import SimpleNamespace

import numpy as np
import pytest

from yolo_callbacks.trainer.exact.conditions import data_digest, differences


def dataset(**changed):
    label = {"shape": (64, 64), "cls": np.array([[0.0], [1.0]]), "bboxes": np.full((2, 4), 0.5), "keypoints": None}
    files = changed.pop("im_files", ["/here/train/a.jpg", "/here/train/b.jpg"])
    return SimpleNamespace(im_files=files, labels=[{**label, **changed}, label])


def test_the_same_data_in_another_place_is_the_same():
    moved = dataset(im_files=[r"D:\there\train\a.jpg", "/there/b.jpg"])
    assert data_digest(moved) == data_digest(dataset())


@pytest.mark.parametrize(
    "changed",
    [
        {"im_files": ["/here/b.jpg", "/here/a.jpg"]},
        {"im_files": ["/here/a.jpg"]},
        {"shape": (64, 65)},
        {"cls": np.array([[0.0], [2.0]])},
        {"bboxes": np.full((2, 4), 0.25)},
        {"keypoints": np.zeros((2, 3))},
    ],
    ids=str,
)
def test_other_data_is_not(changed):
    assert data_digest(dataset(**changed)) != data_digest(dataset())


def test_pictures_in_folders_of_their_class():
    one, other = ([["x/a.jpg", 0, "a.npy", None], ["x/b.jpg", index, None, None]] for index in (1, 2))
    assert data_digest(SimpleNamespace(samples=one)) != data_digest(SimpleNamespace(samples=other))


def test_each_difference_is_named():
    before = {"workers": 2, "training images": "ab", "torch": "2.1", "validation images": "c"}
    assert differences(before, {**before, "workers": 0, "training images": "ac", "argument mixup": "0.5"}) == [
        "workers: 0 instead of 2",
        "the training images are not the same",
        "argument mixup: 0.5 instead of None",
    ]
    assert differences(before, dict(before)) == []
