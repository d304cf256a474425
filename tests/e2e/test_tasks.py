"""Every task that the shapes have labels for, with the default callbacks, on data of the package."""

import pandas as pd
import pytest
import yaml
from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, build_shapes

MODELS = {
    "segment": ("yolo26n-seg.yaml", "metrics/mAP50-95(M)"),
    "pose": ("yolo26n-pose.yaml", "metrics/mAP50-95(P)"),
    "obb": ("yolo26n-obb.yaml", "metrics/mAP50-95(B)"),
    "classify": ("yolo26n-cls.yaml", "metrics/accuracy_top1"),
}


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


@pytest.mark.parametrize("task", MODELS)
def test_defaults_and_short_names_in_every_task(task, tmp_path):
    name, key = MODELS[task]
    model = YOLO(name, verbose=False)
    short = "top1" if task == "classify" else "mAP50-95"
    run = ycb.attach(
        model,
        [
            *ycb.default_callbacks(),
            ycb.EarlyStopping(monitor="val_loss", patience=50),
            ycb.ModelCheckpoint(f"{{epoch}}-{{{short}:.3f}}", monitor=short, save_top_k=2),
        ],
    )
    model.train(
        data=small_data(task, tmp_path), epochs=2, imgsz=64, batch=8, nbs=8, device="cpu", plots=False, verbose=False,
        project=str(tmp_path), name="run",
    )  # fmt: skip
    frame = pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")
    assert len(frame) == len(run.history) == 2
    assert frame[key].notna().all()
    assert frame["validated"].all()
    assert (tmp_path / "run" / "weights" / f"1-{frame[key][0]:.3f}.pt").exists()
    assert (tmp_path / "run" / "weights" / "best-fitness.pt").exists()


@pytest.mark.parametrize("task", MODELS)
def test_an_unknown_metric_fails_before_the_first_epoch_in_every_task(task, tmp_path):
    model, started = YOLO(MODELS[task][0], verbose=False), []
    ycb.attach(model, [ycb.EarlyStopping(monitor="val/bx_loss")])
    model.add_callback("on_train_epoch_start", lambda trainer: started.append(1))
    with pytest.raises(ycb.UnknownMetricError, match="'val/bx_loss' is not a metric of this run"):
        model.train(
            data=small_data(task, tmp_path), epochs=1, imgsz=64, batch=8, device="cpu", plots=False, verbose=False,
            project=str(tmp_path),
        )  # fmt: skip
    assert not started
