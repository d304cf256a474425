"""What ExtraValidation accepts; tests/e2e/test_extra_validation.py validates."""

from pathlib import Path

import pytest

from yolo_callbacks import ExtraValidation
from yolo_callbacks.core.epochs import is_due


def test_the_split_follows_from_the_data():
    assert ExtraValidation()._chosen_split == "test"
    assert ExtraValidation("night.yaml")._chosen_split == "val"
    assert ExtraValidation(Path("night.yaml"), split="train").get_config() == {
        "data": "night.yaml",
        "split": "train",
        "every": 5,
        "prefix": "test",
    }


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"data": 3}, TypeError, r"data=3 must be a data set such as 'night\.yaml', or None"),
        ({"split": "tset"}, ValueError, r"split='tset' is not one of .* \(did you mean 'test'\?\)"),
        ({"every": 0}, ValueError, "every=0 must be >= 1"),
        ({"every": 0.5}, TypeError, "every=0.5 must be a whole number"),
        ({"prefix": 3}, TypeError, "prefix=3 must be a word"),
        ({"prefix": "a/b"}, ValueError, "prefix='a/b' must be a word of letters"),
        ({"prefix": ""}, ValueError, "prefix='' must be a word of letters"),
        ({"prefix": "val"}, ValueError, "prefix='val' is that of other metrics"),
        ({"prefix": "recall"}, ValueError, "prefix='recall' is that of other metrics"),
    ],
)
def test_mistakes_are_told_at_once(arguments, error, why):
    with pytest.raises(error, match=why):
        ExtraValidation(**arguments)


@pytest.mark.parametrize(
    ("every", "planned", "due"), [(5, 12, [1, 5, 10, 12]), (1, 3, [1, 2, 3]), (20, 12, [1, 12]), (4, 1, [1])]
)
def test_the_first_epoch_every_nth_and_the_last_are_due(every, planned, due):
    assert [epoch for epoch in range(1, planned + 1) if is_due(epoch, every, planned)] == due
