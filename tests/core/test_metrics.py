import numpy as np
import pytest
import torch

from yolo_callbacks import EpochRecord, UnknownMetricError
from yolo_callbacks.core.metrics import MetricView, direction, fitness_of, keys_of

DETECT = [
    "metrics/precision(B)",
    "metrics/recall(B)",
    "metrics/mAP50(B)",
    "metrics/mAP50-95(B)",
    "val/box_loss",
    "val/cls_loss",
    "train/box_loss",
    "fitness",
    "lr/pg0",
]
SEGMENT = [*DETECT, "metrics/mAP50-95(M)"]
POSE = [*DETECT, "metrics/mAP50-95(P)"]
CLASSIFY = ["metrics/accuracy_top1", "metrics/accuracy_top5", "val/loss", "train/loss"]
SEMANTIC = ["metrics/mIoU", "metrics/pixel_acc", "val/ce_loss", "val/dice_loss", "val/aux_loss"]
DEPTH = ["metrics/delta1", "metrics/abs_rel", "metrics/rmse", "metrics/silog"]


@pytest.mark.parametrize(
    ("name", "available", "keys"),
    [
        ("metrics/mAP50(B)", DETECT, ("metrics/mAP50(B)",)),
        ("mAP50", DETECT, ("metrics/mAP50(B)",)),
        ("mAP50-95", DETECT, ("metrics/mAP50-95(B)",)),
        ("mAP50-95", SEGMENT, ("metrics/mAP50-95(M)",)),  # the head that the task is named after
        ("mAP50-95", POSE, ("metrics/mAP50-95(P)",)),
        ("mAP50-95(B)", SEGMENT, ("metrics/mAP50-95(B)",)),
        ("val_loss", DETECT, ("val/box_loss", "val/cls_loss")),
        ("val_loss", CLASSIFY, ("val/loss",)),
        ("train_loss", DETECT, ("train/box_loss",)),
        ("top1", CLASSIFY, ("metrics/accuracy_top1",)),
        ("abs_rel", DEPTH, ("metrics/abs_rel",)),
        ("mIoU", SEMANTIC, ("metrics/mIoU",)),
        ("val_loss", SEMANTIC, ("val/ce_loss", "val/dice_loss", "val/aux_loss")),
        ("lr", DETECT, ("lr/pg0",)),
    ],
)
def test_names_find_their_keys(name, available, keys):
    assert keys_of(name, available) == keys


@pytest.mark.parametrize(
    ("name", "available"), [("top1", DETECT), ("mAP50", CLASSIFY), ("val_loss", DEPTH), ("nonsense", DETECT)]
)
def test_a_metric_that_is_not_there(name, available):
    with pytest.raises(UnknownMetricError, match=f"'{name}' is not a metric of this run"):
        keys_of(name, available)


@pytest.mark.parametrize(
    "name", ["mAP50-95", "mAP50", "precision", "metrics/recall(M)", "fitness", "top1", "delta1", "mIoU", "pixel_acc"]
)
def test_more_is_better(name):
    assert direction(name) == "max"


@pytest.mark.parametrize("name", ["val_loss", "val/box_loss", "train/loss", "abs_rel", "metrics/rmse", "silog"])
def test_less_is_better(name):
    assert direction(name) == "min"


@pytest.mark.parametrize("name", ["lr", "lr/pg0", "metrics/glossiness", "metrics/custom"])
def test_directions_that_cannot_be_known(name):
    assert direction(name) is None


def test_a_view_has_short_names_and_sums():
    view = MetricView(EpochRecord(1, {"val/box_loss": 1.0, "val/cls_loss": 2.5, "metrics/mAP50(B)": 0.5}))
    assert view["val_loss"] == 3.5
    assert view["mAP50"] == 0.5
    assert "mAP50" in view
    assert "mAP75" not in view
    assert dict(view)["val_loss"] == 3.5
    assert len(view) == len(list(view))


def test_a_view_has_defaults():
    view = MetricView(EpochRecord(1, {"metrics/recall(B)": 0.5}))
    assert view.get("recall", 0.0) == 0.5
    assert view.get("precision", 0.25) == 0.25


def scored(task):
    """Return Ultralytics' own metrics of a task, with results that are good but not perfect."""
    from ultralytics.utils import metrics

    names = {0: "circle", 1: "star"}
    if task == "classify":
        scores = metrics.ClassifyMetrics()
        scores.top1, scores.top5 = 0.5, 0.875
    elif task == "semantic":
        scores = metrics.SemanticMetrics(names)
        scores.update_stats(torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 0, 1, 1]]]))
        scores.process()
    elif task == "depth":
        scores = metrics.DepthMetrics()
        scores.update_stats(torch.tensor([[[1.0] * 8 + [2.0] * 4]]), torch.ones(1, 1, 12))
        scores.process()
    else:
        kind = {"segment": metrics.SegmentMetrics, "pose": metrics.PoseMetrics, "obb": metrics.OBBMetrics}
        scores = kind.get(task, metrics.DetMetrics)(names)
        for head, share in (("box", 0.75), ("seg", 0.875), ("pose", 0.625)):
            if hasattr(scores, head):
                getattr(scores, head).all_ap = np.full((2, 10), share)
    return scores.results_dict


@pytest.mark.parametrize(
    ("task", "fitness"),
    [
        ("detect", 0.75),
        ("segment", 1.625),
        ("pose", 1.375),
        ("obb", 0.75),
        ("semantic", 7 / 12),
        ("depth", 2 / 3),
        ("classify", 0.6875),
    ],
)
def test_the_fitness_is_the_one_of_ultralytics(task, fitness):
    results = scored(task)
    assert results.pop("fitness") == pytest.approx(fitness)
    assert fitness_of(results) == pytest.approx(fitness)


def test_a_fitness_that_cannot_be_told():
    assert fitness_of({"val/box_loss": 1.0}) is None
