"""The default callbacks and SystemMonitor change nothing of a training: the same seed gives the same digits."""

import pandas as pd
import pytest
import yaml
from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, build_shapes


@pytest.mark.parametrize(("task", "model"), [("detect", "yolo26n.yaml"), ("pose", "yolo26n-pose.yaml")])
def test_results_with_and_without(task, model, tmp_path):
    root = build_shapes(tmp_path / "data", task, train=16, val=8, size=64)
    content = {**yaml.safe_load(SHAPES[task].read_text()), "path": str(root)}
    content.pop("download")
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump(content))
    frames = []
    for attached in (False, True):
        yolo = YOLO(model, verbose=False)
        if attached:
            ycb.attach(yolo, [*ycb.default_callbacks(), ycb.SystemMonitor()])
        yolo.train(
            data=str(file), epochs=3, imgsz=64, batch=8, nbs=8, device="cpu", plots=False, verbose=False, seed=3,
            project=str(tmp_path), name=f"run{attached}",
        )  # fmt: skip
        frames.append(pd.read_csv(tmp_path / f"run{attached}" / "results.csv").drop(columns="time"))
    pd.testing.assert_frame_equal(*frames, check_exact=True)
