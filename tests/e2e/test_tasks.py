"""Every task that the installed Ultralytics can train, with the default callbacks, on data of the package."""

from typing import NamedTuple

import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from ultralytics import YOLO
from ultralytics.cfg import TASK2METRIC, TASKS

import yolo_callbacks as ycb
from tests.helpers import TINY, tiny_model
from yolo_callbacks.core.metrics import fitness_of
from yolo_callbacks.core.monitor import Monitor
from yolo_callbacks.datasets import SHAPES, build_shapes


def of_heads(*letters):
    """Return the metrics of tasks that find boxes."""
    return [f"metrics/{name}({head})" for head in letters for name in ("precision", "recall", "mAP50", "mAP50-95")]


class Task(NamedTuple):
    """What a training of a task measures.

    Attributes:
        losses: What its losses are called.
        up: The metrics of which more is better.
        down: The metrics of which less is better.
        short: The short name of a metric, and its key.
        highest_fitness: The fitness of a perfect model.
    """

    losses: list[str]
    up: list[str]
    down: list[str]
    short: tuple[str, str]
    highest_fitness: float


EXPECTED = {
    "detect": Task(
        ["box_loss", "cls_loss", "l1_loss"],
        of_heads("B"), [], ("mAP50-95", "metrics/mAP50-95(B)"), 1,
    ),
    "segment": Task(
        ["box_loss", "seg_loss", "cls_loss", "l1_loss", "sem_loss"],
        of_heads("B", "M"), [], ("mAP50-95", "metrics/mAP50-95(M)"), 2,
    ),
    "semantic": Task(
        ["ce_loss", "dice_loss", "aux_loss"],
        ["metrics/mIoU", "metrics/pixel_acc"], [], ("mIoU", "metrics/mIoU"), 1,
    ),
    "depth": Task(
        ["dlog_loss", "dgrad_loss"],
        ["metrics/delta1", "metrics/delta2", "metrics/delta3"], ["metrics/abs_rel", "metrics/rmse", "metrics/silog"],
        ("abs_rel", "metrics/abs_rel"), 1,
    ),
    "classify": Task(
        ["loss"],
        ["metrics/accuracy_top1", "metrics/accuracy_top5"], [], ("top1", "metrics/accuracy_top1"), 1,
    ),
    "pose": Task(
        ["box_loss", "pose_loss", "kobj_loss", "cls_loss", "l1_loss", "rle_loss"],
        of_heads("B", "P"), [], ("mAP50-95", "metrics/mAP50-95(P)"), 2,
    ),
    "obb": Task(
        ["box_loss", "cls_loss", "l1_loss", "angle_loss"],
        of_heads("B"), [], ("mAP50-95", "metrics/mAP50-95(B)"), 1,
    ),
}  # fmt: skip


def small_data(task, folder):
    """Return a data set of the task that is as small as it can be."""
    root = build_shapes(folder / task, task, train=8, val=8, size=64)
    if task == "classify":
        return str(root)
    content = yaml.safe_load(SHAPES[task].read_text())
    content.pop("download")
    file = folder / f"{task}.yaml"
    file.write_text(yaml.safe_dump({**content, "path": str(root)}))
    return str(file)


class Witness(ycb.Callback):
    """Keeps what was announced before the first epoch, and the epochs."""

    def setup(self, session):
        metrics, self.losses_known = session.run.metric_names()
        self.announced = set(metrics)

    def decide(self, history):
        self.history = history


@pytest.mark.parametrize("task", TASKS)
def test_defaults_and_every_metric_in_every_task(task, tmp_path):
    expected = EXPECTED[task]
    model, witness = YOLO(tiny_model(task, tmp_path), verbose=False), Witness()
    short, key = expected.short
    run = ycb.attach(
        model,
        [
            *ycb.default_callbacks(),
            ycb.EarlyStopping(monitor="val_loss", patience=50),
            ycb.ModelCheckpoint(f"{{epoch}}-{{{short}:.3f}}", monitor=short, save_top_k=2),
            ycb.TensorBoard(predictions_freq=1),
            witness,
        ],
    )
    model.train(
        data=small_data(task, tmp_path), epochs=2, imgsz=64, batch=8, nbs=8, device="cpu", plots=False, verbose=False,
        project=str(tmp_path), name="run",
    )  # fmt: skip
    folder = tmp_path / "run"
    frame = pd.read_csv(folder / "callbacks" / "epochs.csv")
    assert len(frame) == len(run.history) == 2
    assert frame["validated"].all()
    assert (folder / "weights" / f"1-{frame[key][0]:.3f}.pt").exists()
    assert (folder / "weights" / "best-fitness.pt").exists()

    directions = {
        "fitness": "max",
        **dict.fromkeys(expected.up, "max"),
        **dict.fromkeys(expected.down, "min"),
        **{f"{split}/{loss}": "min" for split in ("train", "val") for loss in expected.losses},
    }
    for metrics in (witness.announced, *(record.metrics for record in witness.history)):
        assert {name for name in metrics if not name.startswith("lr/")} == set(directions)
    assert witness.losses_known
    assert {name: Monitor.of(name).mode for name in directions} == directions
    assert TASK2METRIC[task] in expected.up

    theirs = pd.read_csv(folder / "results.csv", skipinitialspace=True)
    assert {name for name in theirs if "/" in name and not name.startswith("lr/")} == set(directions) - {"fitness"}
    for record, row in zip(witness.history, theirs.to_dict("records")):
        losses = [row[f"val/{loss}"] for loss in expected.losses]
        assert Monitor.of("val_loss").value(record) == pytest.approx(sum(losses))
        assert sum(losses) > 0
        assert Monitor.of(short).value(record) == pytest.approx(row[key])
        assert record.metrics["fitness"] == pytest.approx(fitness_of(row), abs=2e-5)
        assert 0 <= record.metrics["fitness"] <= expected.highest_fitness
    assert fitness_of(dict.fromkeys(expected.up, 1.0)) == expected.highest_fitness

    events = EventAccumulator(str(folder)).Reload()
    assert [item.step for item in events.Images("validation/labels_and_predictions")] == [1, 2]
    assert len(events.Graph().node) > len(list(model.model.modules()))


@pytest.mark.parametrize("kind", ["a loss", "a metric of another task"])
@pytest.mark.parametrize("task", TASKS)
def test_an_unknown_metric_fails_before_the_first_epoch_in_every_task(task, kind, tmp_path):
    finds_boxes = any(key.endswith("(B)") for key in EXPECTED[task].up)
    monitor = "val/bx_loss" if kind == "a loss" else "mIoU" if finds_boxes else "mAP50"
    model, started = YOLO(tiny_model(task, tmp_path), verbose=False), []
    ycb.attach(model, [ycb.EarlyStopping(monitor=monitor)])
    model.add_callback("on_train_epoch_start", lambda trainer: started.append(1))
    with pytest.raises(ycb.UnknownMetricError, match=f"'{monitor}' is not a metric of this run"):
        model.train(
            data=small_data(task, tmp_path), epochs=1, imgsz=64, batch=8, device="cpu", plots=False, verbose=False,
            project=str(tmp_path),
        )  # fmt: skip
    assert not started


def test_a_depth_model_is_calibrated_wherever_it_is_taken_from(tmp_path):
    def scale(path):
        return float(YOLO(path).model.model[-1].cal_b)

    def newest_is_best(metrics):
        return metrics["train/dlog_loss"] * 0 + 1 / metrics["lr/pg0"]

    model = YOLO(tiny_model("depth", tmp_path), verbose=False)
    ycb.attach(
        model,
        [
            ycb.EarlyStopping(monitor=newest_is_best, mode="max", restore_best_weights=True),
            ycb.ModelCheckpoint("mine", monitor=newest_is_best, mode="max", export="torchscript"),
        ],
    )
    data = small_data("depth", tmp_path)
    settings = {**TINY, "batch": 8, "nbs": 8, "epochs": 2, "warmup_epochs": 0}
    model.train(data=data, project=str(tmp_path), name="run", **settings)
    weights = tmp_path / "run" / "weights"
    expected = scale(weights / "last.pt")  # of the same epoch, calibrated by Ultralytics
    assert expected != 0
    assert scale(weights / "restore-newest_is_best.pt") == scale(weights / "mine.pt") == pytest.approx(expected)
    assert float(model.model.model[-1].cal_b) == pytest.approx(expected)
