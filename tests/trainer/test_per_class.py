"""What is read from Ultralytics' own objects, filled with results that differ by class."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ultralytics.utils import metrics

from yolo_callbacks.trainer.per_class import class_results, classes_of

NAMES = {0: "circle", 1: "ghost", 2: "star", 3: "circle"}


def trainer(task, validator, dataset=None):
    return SimpleNamespace(
        args=SimpleNamespace(task=task),
        validator=validator,
        model=SimpleNamespace(names=NAMES),
        test_loader=SimpleNamespace(dataset=dataset),
    )


def labels(*groups):
    return SimpleNamespace(labels=[{"cls": np.array(group, dtype=np.float32).reshape(-1, 1)} for group in groups])


def boxes(kind):
    """Return metrics of two classes out of four: circle is found half the time, star always."""
    scores = kind(NAMES)
    tp = np.zeros((6, 10), dtype=bool)
    tp[[0, 2, 3], :] = True
    tp[4, :5] = True
    stat = {
        "tp": tp,
        "conf": np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]),
        "pred_cls": np.array([0.0, 0, 2, 2, 0, 1]),
        "target_cls": np.array([0.0, 0, 2, 2]),
        "target_img": np.array([0.0, 2]),
        "im_name": "1.jpg",
    }
    other = np.zeros((6, 10), dtype=bool)
    other[[0, 3], :] = True
    other[2, :7] = True
    stat.update({extra: other for extra in ("tp_m", "tp_p") if extra in scores.stats})
    scores.update_stats(stat)
    scores.process()
    return scores


@pytest.mark.parametrize(
    ("task", "kind", "heads"),
    [
        ("detect", metrics.DetMetrics, {"": "box"}),
        ("obb", metrics.OBBMetrics, {"": "box"}),
        ("segment", metrics.SegmentMetrics, {"(B)": "box", "(M)": "seg"}),
        ("pose", metrics.PoseMetrics, {"(B)": "box", "(P)": "pose"}),
    ],
)
def test_tasks_that_find_boxes(task, kind, heads):
    scores = boxes(kind)
    run = trainer(task, SimpleNamespace(metrics=scores), labels([0, 2], [], [2, 0]))
    classes = classes_of(run)
    assert classes.names == ("circle#0", "ghost", "star", "circle#3")
    assert classes.present == {0, 2}
    results = class_results(run, classes)
    assert list(results.counts) == [2, 0, 2, 0]
    last = list(heads)[-1]
    assert classes.main == f"mAP50-95{last}"
    for head, part in heads.items():
        own, values = getattr(scores, part), results.values[f"mAP50-95{head}"]
        assert values[1] is None  # where Ultralytics' own `maps` has the mean
        assert values[3] is None
        assert own.maps[1] == own.map > 0
        assert values[0] == pytest.approx(own.ap[0], abs=1e-5)
        assert values[2] == pytest.approx(own.ap[1], abs=1e-5)
        assert values[0] != values[2]
        there = [value for value in results.values[f"recall{head}"] if value is not None]
        assert sum(there) / 2 == pytest.approx(own.mr, abs=1e-5)
    assert results.values[classes.main] != results.values["mAP50" + last]
    assert len({str(results.values[f"mAP50-95{head}"]) for head in heads}) == len(heads)


def test_classification():
    validator = SimpleNamespace(
        targets=[torch.tensor([0, 0]), torch.tensor([2, 2, 2], dtype=torch.int32)],
        pred=[torch.tensor([[0, 1], [1, 0]]), torch.tensor([[2, 0], [0, 2], [0, 1]])],
        metrics=metrics.ClassifyMetrics(),
    )
    dataset = SimpleNamespace(samples=[["a.jpg", 0, None, None], ["b.jpg", 2, None, None]])
    run = trainer("classify", validator, dataset)
    classes = classes_of(run)
    assert classes.present == {0, 2}
    results = class_results(run, classes)
    assert results.values["top1"] == [0.5, None, 0.33333, None]
    assert results.values["top5"] == [1.0, None, 0.66667, None]
    assert list(results.counts) == [2, 0, 3, 0]
    validator.metrics.process(validator.targets, validator.pred)
    assert validator.metrics.top1 == pytest.approx((2 * 0.5 + 3 / 3) / 5)


def test_semantic_segmentation():
    scores = metrics.SemanticMetrics(NAMES)
    scores.update_stats(torch.tensor([[[0, 2, 2, 1]]]), torch.tensor([[[0, 0, 2, 2]]]))
    scores.process()
    run = trainer("semantic", SimpleNamespace(metrics=scores), labels([]))
    classes = classes_of(run)
    assert classes.present is None  # only the masks would tell
    results = class_results(run, classes)
    assert results.values["mIoU"] == [0.5, None, 0.33333, None]
    assert results.values["pixel_acc"] == [0.5, None, 0.5, None]
    assert sum(v for v in results.values["mIoU"] if v is not None) / 2 == pytest.approx(scores.miou, abs=1e-5)
    assert list(results.counts) == [2, 0, 2, 0]


def test_a_validation_set_without_an_object():
    scores = metrics.DetMetrics(NAMES)
    empty = {key: np.zeros((0, 10) if key == "tp" else 0) for key in scores.stats}
    scores.update_stats({**empty, "im_name": "1.jpg"})
    scores.process()
    run = trainer("detect", SimpleNamespace(metrics=scores), labels([], []))
    classes = classes_of(run)
    results = class_results(run, classes)
    assert classes.present == frozenset()
    assert results.summaries == {}
    assert results.numbers(["recall/star", "worst_class"]) == {}


def test_data_sets_that_are_put_together_or_unknown():
    scores = SimpleNamespace(metrics=metrics.DetMetrics(NAMES))
    together = SimpleNamespace(datasets=[labels([0]), labels([3], [3])])
    assert classes_of(trainer("detect", scores, together)).present == {0, 3}
    assert classes_of(trainer("detect", scores, object())).present is None


def test_where_there_is_nothing_of_classes():
    assert not classes_of(trainer("depth", SimpleNamespace(metrics=metrics.DepthMetrics()))).metrics
    own = classes_of(trainer("detect", SimpleNamespace(metrics={"my": 1})))
    assert (own.metrics, own.without) == ((), "SimpleNamespace has no per-class results")


def test_one_name_a_class_where_the_model_has_a_list():
    run = trainer("detect", SimpleNamespace(metrics=metrics.DetMetrics({})), labels([0]))
    run.model.names = ["a", "b"]
    assert classes_of(run).names == ("a", "b")
