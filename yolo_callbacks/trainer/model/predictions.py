"""Pictures of a validation's predictions, copied from the validation itself.

No extra predictions are made: the results of the validator's first batch are copied.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from yolo_callbacks.support.background import tell_once

_MIN_CONFIDENCE = 0.25  # as in Ultralytics' own plots
_LARGEST_SIDE = 480  # pixels of one picture
_SMALLEST_SIDE = 320
_PAIRS_PER_ROW = 2

Look = Callable[[Sequence["Predicted"]], None]


@dataclass(frozen=True)
class Predicted:
    """One image of the validation, as NumPy arrays.

    Attributes:
        image: Channels, height, width; uint8.
        file: Name of the file; empty if the validator does not know it.
        labels: The labels for `ultralytics.utils.plotting.plot_images`, with boxes relative to the image size.
        predictions: The predictions, with boxes in pixels.
        names: Class names by number.
    """

    image: Any
    file: str
    labels: Mapping[str, Any]
    predictions: Mapping[str, Any]
    names: Mapping[int, str]


def watch_validation(trainer: Any, who: str, most: int, look: Look) -> Callable[[], None]:
    """Watch the first images of the next validation.

    Args:
        trainer: The trainer.
        who: The watcher's name in the log, if it raises an error.
        most: The largest number of images.
        look: Called with them once, during the validation.

    Returns:
        A function that ends the watch early. May be called again.
    """
    # the returned function must not keep the validator alive, which holds the trainer's data on its device
    task, watched = trainer.args.task, weakref.ref(trainer.validator)
    before = {name: own for name, own in vars(trainer.validator).items() if name == "update_metrics"}

    def update_metrics(preds: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        validator: Any = watched()
        undo()
        own = before.get("update_metrics") or partial(type(validator).update_metrics, validator)
        result = own(preds, batch, *args, **kwargs)
        try:
            look(_take(validator, task, preds, batch, most))
        except Exception as error:
            tell_once(set(), who, error)
        return result

    def undo() -> None:
        validator = watched()
        attributes = vars(validator) if validator is not None else {}
        if attributes.get("update_metrics") is update_metrics:
            del attributes["update_metrics"]
            attributes.update(before)

    trainer.validator.update_metrics = update_metrics
    return undo


def _take(validator: Any, task: str, preds: Any, batch: Mapping[str, Any], most: int) -> list[Predicted]:
    if not isinstance(preds, list) and task not in _OF_WHOLE_IMAGES:
        raise ValueError(f"predictions of the task {task!r} cannot be drawn")
    images = batch["img"][:most].float()
    images = (images * 255 if images.max() <= 1 else images).clamp(0, 255).byte().cpu().numpy()
    overlap = bool(getattr(validator.args, "overlap_mask", True))
    files = batch.get("im_file") or [""] * len(images)
    return [
        Predicted(
            image,
            str(files[number]).replace("\\", "/").rsplit("/", 1)[-1],
            _labels(task, batch, number, overlap),
            _found(preds[number]) if isinstance(preds, list) else _OF_WHOLE_IMAGES[task](preds[number]),
            validator.names,
        )
        for number, image in enumerate(images)
    ]


def _labels(task: str, batch: Mapping[str, Any], number: int, overlap: bool) -> dict[str, Any]:
    if task in ("semantic", "depth"):
        key = "semantic_mask" if task == "semantic" else "depth"
        return _arrays({key: batch[key][number : number + 1]})
    if task == "classify":
        return _arrays({"cls": batch["cls"][number : number + 1]})
    here = batch["batch_idx"] == number
    labels = {key: batch[key][here] for key in ("cls", "bboxes", "keypoints") if key in batch}
    if "masks" in batch:
        labels["masks"] = batch["masks"][number : number + 1] if overlap else batch["masks"][here]
    return _arrays(labels)


def _found(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predictions that are confident enough to draw, with boxes as plot_images expects them."""
    sure = prediction["conf"] > _MIN_CONFIDENCE
    found = {key: prediction[key][sure] for key in ("cls", "conf", "bboxes", "keypoints", "masks") if key in prediction}
    boxes = found["bboxes"]
    if boxes.shape[-1] == 4:  # corners; oriented boxes have center, size and angle
        found["bboxes"] = _centred(boxes)
    return _arrays(found)


def _centred(boxes: Any) -> Any:
    from ultralytics.utils.ops import xyxy2xywh

    return xyxy2xywh(boxes)


_OF_WHOLE_IMAGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "classify": lambda scores: _arrays({"cls": scores.argmax()[None], "conf": scores.amax()[None]}),
    "semantic": lambda classes: _arrays({"semantic_mask": classes[None]}),
    "depth": lambda metres: _arrays({"depth": metres[None]}),
}


def _arrays(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Copy tensors to NumPy arrays, because the validator may change them later."""
    return {
        key: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().clone().numpy()
        for key, tensor in tensors.items()
    }


def draw(pictures: Sequence[Predicted]) -> Any:
    """Return one picture (height, width, 3; uint8, RGB) of pairs: labels on the left, predictions on the right."""
    import numpy as np

    pairs = [
        np.hstack([_drawn(item, item.labels, "labels"), _drawn(item, item.predictions, "predictions")])
        for item in pictures
    ]
    pairs += [np.full_like(pairs[0], 255)] * (-len(pairs) % min(len(pairs), _PAIRS_PER_ROW))
    rows = [np.hstack(pairs[start : start + _PAIRS_PER_ROW]) for start in range(0, len(pairs), _PAIRS_PER_ROW)]
    return np.vstack(rows)


def _drawn(picture: Predicted, objects: Mapping[str, Any], title: str) -> Any:
    """Draw objects into an image with Ultralytics; enlarge a small image to make them readable."""
    import numpy as np
    from ultralytics.utils.plotting import plot_images

    image = picture.image
    times = max(1, _SMALLEST_SIDE // max(image.shape[1:]))
    image = image.repeat(times, axis=1).repeat(times, axis=2)[None].astype(np.float32)
    objects = {key: array.copy() for key, array in objects.items()}
    if "conf" in objects and "bboxes" in objects:
        objects["bboxes"][:, :4] *= times
        if "keypoints" in objects:
            objects["keypoints"][..., :2] *= times
    if "cls" in objects:
        objects["cls"] = objects["cls"].reshape(-1)
        objects["batch_idx"] = np.zeros(len(objects["cls"]))
    return plot_images(
        objects,
        image,
        paths=[f"{title}: {picture.file}"] if "bboxes" in objects or "cls" not in objects else None,
        names=picture.names,
        max_size=_LARGEST_SIDE,
        conf_thres=_MIN_CONFIDENCE,
        save=False,
        threaded=False,
    )
