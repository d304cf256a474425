import numpy as np
import pytest
import torch

from yolo_callbacks import EpochRecord, UnknownMetricError
from yolo_callbacks.core.metrics import (
    CLASS_SUMMARIES,
    MetricView,
    UnmeasuredError,
    check_known,
    could_be_metric,
    direction,
    fitness_of,
    is_measured,
    keys_of,
    unknown_metric,
)

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
        ("mAP50-95/person", [*DETECT, "mAP50-95/person"], ("mAP50-95/person",)),
        ("mAP50-95(B)/person", [*DETECT, "mAP50-95/person"], ("mAP50-95/person",)),
        ("recall/a/b, c", [*SEGMENT, "recall(B)/a/b, c", "recall(M)/a/b, c"], ("recall(M)/a/b, c",)),
        ("recall(B)/x", [*POSE, "recall(B)/x", "recall(P)/x"], ("recall(B)/x",)),
        ("worst_class", [*DETECT, "worst_class"], ("worst_class",)),
    ],
)
def test_names_find_their_keys(name, available, keys):
    assert keys_of(name, available) == keys


@pytest.mark.parametrize(
    ("name", "available"),
    [
        ("top1", DETECT),
        ("mAP50", CLASSIFY),
        ("val_loss", DEPTH),
        ("nonsense", DETECT),
        ("mAP50/person", DETECT),  # the one of all classes is no substitute
        ("mAP50/person", [*DETECT, "mAP50/persons"]),
        ("worst_class", DETECT),
    ],
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


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("mAP50-95/person", "max"),
        ("mAP50-95(M)/box_loss", "max"),  # a class may be called anything
        ("precision/val/loss", "max"),
        ("top1/cat", "max"),
        ("worst_class", "max"),
        ("classes/median", "max"),
        ("classes/at_zero", "min"),
        ("mAP75/person", None),
        ("mAP50/", None),
    ],
)
def test_the_direction_of_a_class(name, better):
    assert direction(name) == better


@pytest.mark.parametrize("name", ["mAP50/person", "recall(M)/x/y", "worst_class", "classes/p10"])
def test_a_class_is_a_metric_before_anything_is_known_of_the_run(name):
    assert could_be_metric(name)
    assert is_measured(name)


@pytest.mark.parametrize("name", ["fitness", "mAP50", "val_loss", "lr", *DETECT, *SEMANTIC])
def test_what_the_trainer_itself_measures(name):
    assert not is_measured(name)


def test_a_thousand_classes_leave_the_message_readable():
    keys = [*DETECT, *(f"{metric}/class {i}" for metric in ("recall", "mAP50-95") for i in range(1200))]
    said = unknown_metric("fitnes", keys)
    assert len(said) < 500
    assert "(did you mean 'fitness'?)" in said
    assert "mAP50-95/<class> of 1200 classes" in said
    assert "did you mean 'class 77'?" in unknown_metric("recall/clas 77", keys)
    assert "PerClassMetrics(classes=['person'])" in unknown_metric("recall/person", DETECT)


def test_a_view_has_classes():
    view = MetricView(EpochRecord(1, {"mAP50-95(B)/a": 0.25, "mAP50-95(M)/a": 0.5, "worst_class": 0.25}))
    assert (view["mAP50-95/a"], view["mAP50-95(B)/a"], view["worst_class"]) == (0.5, 0.25, 0.25)
    assert "mAP50-95/b" not in view
    assert view.get("mAP50-95/b") is None
    assert all(name not in view for name in CLASS_SUMMARIES if name != "worst_class")


def test_metrics_of_another_data_set_have_short_names_and_directions():
    keys = [*DETECT, "test/metrics/mAP50-95(B)", "test/metrics/mAP50-95(M)", "test/fitness", "test/box_loss"]
    assert keys_of("test/mAP50-95", keys) == ("test/metrics/mAP50-95(M)",)
    assert keys_of("test/mAP50-95(B)", keys) == ("test/metrics/mAP50-95(B)",)
    assert keys_of("test/box_loss", keys) == ("test/box_loss",)
    assert keys_of("mAP50-95", keys) == ("metrics/mAP50-95(B)",)
    with pytest.raises(UnmeasuredError, match="'night/mAP50-95' is not a metric of this run"):
        keys_of("night/mAP50-95", keys)
    better = [direction(name) for name in ("test/metrics/mAP50-95(B)", "test/mAP50", "test/fitness", "test/box_loss")]
    assert better == ["max", "max", "max", "min"]
    assert direction("test/metrics/rmse") == direction("test/rmse") == "min"


def test_a_custom_validation_may_measure_more_on_another_data_set_too():
    for name in ("metrics/pictures", "test/metrics/pictures"):
        check_known(name, DETECT, measures_more=True)
        with pytest.raises(UnknownMetricError):
            check_known(name, DETECT)
    with pytest.raises(UnknownMetricError):
        check_known("test/symmetrics/pictures", DETECT, measures_more=True)
