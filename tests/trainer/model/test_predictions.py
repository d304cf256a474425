"""What a validation predicts is copied once and drawn beside the labels, and the validation is as before."""

import copy
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from yolo_callbacks.trainer.model.predictions import Predicted, draw, watch_validation

NAMES = {0: "circle", 1: "square"}


class Validator:
    """Notes what its metrics are updated with."""

    def __init__(self, **args):
        self.args, self.names, self.updates = SimpleNamespace(**args), NAMES, []

    def update_metrics(self, preds, batch, *others):
        self.updates.append((preds, batch, *others))
        return len(self.updates)


def trainer_of(validator=None, task="detect"):
    return SimpleNamespace(args=SimpleNamespace(task=task), validator=validator or Validator())


def batch_of(number=2, size=4, value=0.5, **labels):
    """Return a batch of images with one object each, of the class that is its number."""
    numbers = torch.arange(number)
    return {
        "img": torch.full((number, 3, size, size), value),
        "im_file": [f"/data/{index}.jpg" for index in range(number)],
        "batch_idx": numbers,
        "cls": numbers[:, None].float(),
        "bboxes": torch.full((number, 4), 0.5),
        **labels,
    }


def found(*confidences, **more):
    """Return an image's predictions of the class 1, from (0, 0) to (4, 2)."""
    number = len(confidences)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 2.0]]).repeat(number, 1)
    return {"conf": torch.tensor(confidences), "cls": torch.ones(number), "bboxes": boxes, **more}


def watched(preds, batch, task="detect", most=8, **args):
    """Validate one batch, and return what was seen."""
    trainer, seen = trainer_of(Validator(**args), task), []
    watch_validation(trainer, "Mine", most, seen.extend)
    trainer.validator.update_metrics(preds, batch)
    return seen


# ------------------------------------------------------------------------------------------------- watching


def test_the_first_batch_is_seen_and_the_validation_goes_on_as_before():
    trainer, seen = trainer_of(), []
    validator, batch, preds = trainer.validator, batch_of(), [found(0.9)] * 2
    watch_validation(trainer, "Mine", 8, seen.append)
    assert validator.update_metrics(preds, batch, "another") == 1
    assert validator.update_metrics(preds, batch) == 2
    assert validator.updates == [(preds, batch, "another"), (preds, batch)]
    assert len(seen) == 1
    assert "update_metrics" not in vars(validator)


def test_a_method_of_the_validator_itself_is_put_back():
    trainer, calls, seen = trainer_of(), [], []
    trainer.validator.update_metrics = own = lambda *arguments: calls.append(len(arguments))
    watch_validation(trainer, "Mine", 8, seen.append)
    trainer.validator.update_metrics([found(0.9)] * 2, batch_of())
    assert (calls, len(seen)) == ([2], 1)
    assert vars(trainer.validator)["update_metrics"] is own


def test_a_watch_may_be_ended_early_and_twice():
    trainer, seen = trainer_of(), []
    undo = watch_validation(trainer, "Mine", 8, seen.append)
    undo()
    undo()
    assert "update_metrics" not in vars(trainer.validator)
    trainer.validator.update_metrics([found(0.9)] * 2, batch_of())
    assert seen == []


def test_what_others_have_put_in_its_place_stays():
    trainer = trainer_of()
    undo = watch_validation(trainer, "Mine", 8, print)
    trainer.validator.update_metrics = another = lambda *_: None
    undo()
    assert trainer.validator.update_metrics is another


def test_the_validator_is_not_kept_alive():
    trainer = trainer_of()
    alive = weakref.ref(trainer.validator)
    undo = watch_validation(trainer, "Mine", 8, print)
    trainer.validator = None
    gc.collect()
    assert alive() is None
    undo()


def test_an_error_is_told_and_the_validation_goes_on(said):
    def fail(images):
        raise RuntimeError("no room")

    trainer = trainer_of()
    watch_validation(trainer, "Mine", 8, fail)
    assert [trainer.validator.update_metrics([found(0.9)] * 2, batch_of()) for _ in range(2)] == [1, 2]
    assert said.warnings == ["Mine failed; training continues: RuntimeError: no room"]


def test_an_error_of_the_validation_comes_out_and_ends_the_watch():
    def fail(*_):
        raise RuntimeError("theirs")

    trainer, seen = trainer_of(), []
    trainer.validator.update_metrics = fail
    watch_validation(trainer, "Mine", 8, seen.append)
    with pytest.raises(RuntimeError, match="theirs"):
        trainer.validator.update_metrics([found(0.9)] * 2, batch_of())
    assert seen == []
    assert trainer.validator.update_metrics is fail


def test_a_task_that_is_not_known_is_told(said):
    assert watched(torch.ones(2, 5), batch_of(), task="caption") == []
    assert said.warnings == [
        "Mine failed; training continues: ValueError: predictions of the task 'caption' cannot be drawn"
    ]


# ------------------------------------------------------------------------------------------------- what is copied


@pytest.mark.parametrize("most", [1, 2, 5])
def test_so_many_images_at_most(most):
    seen = watched([found(0.9)] * 2, batch_of(2), most=most)
    assert [item.file for item in seen] == ["0.jpg", "1.jpg"][:most]
    assert [item.labels["cls"].tolist() for item in seen] == [[[0.0]], [[1.0]]][:most]
    assert all(item.names is NAMES for item in seen)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, 127), (1.0, 255), (0.0, 0), (128.0, 128), (255.0, 255), (300.0, 255), (-3.0, 0)],
)
def test_images_are_bytes_whatever_their_range(value, expected):
    (item,) = watched([found(0.9)], batch_of(1, value=value))
    assert (item.image.dtype, item.image.shape) == (np.uint8, (3, 4, 4))
    assert np.unique(item.image).tolist() == [expected]


@pytest.mark.parametrize(
    ("files", "name"), [(["C:\\data\\a.jpg"], "a.jpg"), (["a.jpg"], "a.jpg"), ([], ""), (None, "")]
)
def test_the_name_of_the_file(files, name):
    (item,) = watched([found(0.9)], batch_of(1, im_file=files))
    assert item.file == name


def test_only_confident_predictions_are_taken_with_their_centres():
    (item,) = watched([found(0.25, 0.26, 0.1, 0.9)], batch_of(1))
    assert item.predictions["conf"].tolist() == pytest.approx([0.26, 0.9])
    assert item.predictions["cls"].tolist() == [1, 1]
    assert item.predictions["bboxes"].tolist() == [[2, 1, 4, 2]] * 2


def test_oriented_boxes_and_keypoints_stay_as_they_are():
    boxes, points = torch.tensor([[2.0, 1, 4, 2, 0.5]] * 2), torch.rand(2, 17, 3)
    (item,) = watched([found(0.9, 0.1, bboxes=boxes, keypoints=points, extra=points)], batch_of(1))
    assert item.predictions["bboxes"].tolist() == [[2, 1, 4, 2, 0.5]]
    assert np.array_equal(item.predictions["keypoints"], points[:1].numpy())
    assert set(item.predictions) == {"cls", "conf", "bboxes", "keypoints"}


@pytest.mark.parametrize(
    ("args", "masks"),
    [({"overlap_mask": True}, [[1], [2]]), ({}, [[1], [2]]), ({"overlap_mask": False}, [[2, 3], [1]])],
)
def test_masks_are_one_per_image_or_one_per_object(args, masks):
    batch = batch_of(2, batch_idx=torch.tensor([1, 0, 0]), cls=torch.ones(3, 1), bboxes=torch.rand(3, 4))
    batch["masks"] = torch.arange(1, 4)[:, None, None].expand(3, 2, 2)
    seen = watched([found(0.9)] * 2, batch, **args)
    assert [item.labels["masks"][:, 0, 0].tolist() for item in seen] == masks


@pytest.mark.parametrize(
    ("task", "preds", "batch", "labels", "predictions"),
    [
        (
            "classify",
            torch.tensor([[0.1, 0.9], [0.75, 0.25]]),
            {"cls": torch.tensor([0, 1])},
            [{"cls": [0]}, {"cls": [1]}],
            [{"cls": [1], "conf": [np.float32(0.9)]}, {"cls": [0], "conf": [0.75]}],
        ),
        (
            "semantic",
            torch.tensor([[[1]], [[0]]]),
            {"semantic_mask": torch.tensor([[[0]], [[2]]])},
            [{"semantic_mask": [[[0]]]}, {"semantic_mask": [[[2]]]}],
            [{"semantic_mask": [[[1]]]}, {"semantic_mask": [[[0]]]}],
        ),
        (
            "depth",
            torch.tensor([[[1.5]], [[2.0]]]),
            {"depth": torch.tensor([[[1.0]], [[3.0]]])},
            [{"depth": [[[1.0]]]}, {"depth": [[[3.0]]]}],
            [{"depth": [[[1.5]]]}, {"depth": [[[2.0]]]}],
        ),
    ],
)
def test_tasks_of_whole_images(task, preds, batch, labels, predictions):
    seen = watched(preds, {"img": torch.zeros(2, 3, 4, 4), **batch}, task)
    assert [{key: array.tolist() for key, array in item.labels.items()} for item in seen] == labels
    assert [{key: array.tolist() for key, array in item.predictions.items()} for item in seen] == predictions


def test_what_the_validator_changes_later_does_not_show():
    batch, preds = batch_of(1, masks=torch.ones(1, 2, 2)), [found(0.9)]
    preds[0]["conf"] = preds[0]["conf"].half()
    (item,) = watched(preds, batch)
    for tensor in (*preds[0].values(), batch["img"], batch["cls"], batch["bboxes"], batch["masks"]):
        tensor.zero_()
    assert item.labels["masks"].min() == 1
    assert item.image.max() == 127
    assert item.labels["bboxes"].tolist() == [[0.5] * 4]
    assert item.predictions["cls"].tolist() == [1]
    assert item.predictions["conf"].dtype == np.float32


# ------------------------------------------------------------------------------------------------- drawing


def picture(size=64, labels=None, predictions=None):
    """Return a black image with one box in its middle, half as large, as a label and as a prediction."""
    number = np.array([1.0])
    if labels is None:
        labels = {"cls": number[:, None], "bboxes": np.full((1, 4), 0.5)}
    if predictions is None:
        box = np.array([[size / 2, size / 2, size / 2, size / 2]])
        predictions = {"cls": number, "conf": np.array([0.9]), "bboxes": box}
    return Predicted(np.zeros((3, size, size), np.uint8), "a.jpg", labels, predictions, NAMES)


@pytest.mark.parametrize(("number", "shape"), [(1, (320, 640)), (2, (320, 1280)), (3, (640, 1280)), (4, (640, 1280))])
def test_pairs_are_in_rows_of_two(number, shape):
    drawn = draw([picture()] * number)
    assert (drawn.shape, drawn.dtype) == ((*shape, 3), np.uint8)
    if number == 3:
        assert np.unique(drawn[320:, 640:]).tolist() == [255]


@pytest.mark.parametrize(
    ("size", "side"),
    [(64, 320), (100, 300), (320, 320), (400, 400), (640, 480)],
)
def test_a_box_is_in_one_place_on_both_sides_however_large_the_image_is(size, side):
    drawn = draw([picture(size)])
    assert drawn.shape == (side, 2 * side, 3)
    middle = drawn[side // 2].any(axis=-1)
    for half in (middle[:side], middle[side:]):
        edges = [column for column in np.flatnonzero(half) if 10 < column < side - 10]  # within the frame
        assert edges
        assert all(min(abs(edge - side / 4), abs(edge - side * 3 / 4)) <= 4 for edge in edges)
        assert {edge < side / 2 for edge in edges} == {True, False}


def test_keypoints_are_where_the_image_has_them():
    point = np.array([[[16.0, 48.0, 1.0]]])
    there = {"cls": np.array([1.0]), "conf": np.array([0.9]), "bboxes": np.array([[32.0, 32, 62, 62]])}
    with_point, without = (
        draw([picture(predictions={**there, **extra})])[:, 320:] for extra in ({"keypoints": point}, {})
    )
    rows, columns = np.nonzero((with_point != without).any(axis=-1))
    assert (rows.mean(), columns.mean()) == pytest.approx((240, 80), abs=3)


def test_nothing_found_is_a_picture_too():
    nothing = {"cls": np.zeros(0), "conf": np.zeros(0), "bboxes": np.zeros((0, 4))}
    drawn = draw([picture(predictions=nothing)])
    assert drawn[160, 320 + 20 : 640 - 20].max() == 0


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ({"cls": np.array([0])}, {"cls": np.array([1]), "conf": np.array([0.9])}),
        ({"semantic_mask": np.zeros((1, 64, 64), int)}, {"semantic_mask": np.ones((1, 64, 64), int)}),
        ({"depth": np.ones((1, 64, 64))}, {"depth": np.linspace(1, 9, 64 * 64).reshape(1, 64, 64)}),
    ],
)
def test_other_tasks_are_drawn_and_what_differs_looks_different(labels, predictions):
    drawn = draw([picture(labels=labels, predictions=predictions)])
    assert drawn.shape == (320, 640, 3)
    assert (drawn[:, :320] != drawn[:, 320:]).any()


def test_drawing_changes_no_array():
    item = picture()
    before = copy.deepcopy(item)
    draw([item])
    assert np.array_equal(item.image, before.image)
    for there, then in ((item.labels, before.labels), (item.predictions, before.predictions)):
        assert all(np.array_equal(there[key], then[key]) for key in then)
