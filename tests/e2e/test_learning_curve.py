"""One real learning curve on the generated shapes: from scratch, until the plateau ends it."""

import json
from pathlib import Path

import pandas as pd
import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import build_shapes

MODEL = Path(__file__).parents[1] / "small26.yaml"
ARGUMENTS = {
    "imgsz": 96,
    "batch": 16,
    "nbs": 16,
    "device": "cpu",
    "plots": False,
    "verbose": False,
    "optimizer": "AdamW",
    "lr0": 0.01,
    "mosaic": 0.0,
    "seed": 1,
}
VALIDATION = {"imgsz": 96, "batch": 32, "device": "cpu", "plots": False, "verbose": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(build_shapes(tmp_path_factory.mktemp("data") / "shapes", train=128, val=32) / "data.yaml")


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    model = YOLO(MODEL, verbose=False)
    run = ycb.attach(
        model,
        [
            ycb.EarlyStopping(
                monitor="mAP50-95", patience=5, min_delta=0.05, start_from_epoch=20, restore_best_weights=True
            ),
            ycb.ReduceLROnPlateau(
                monitor="mAP50-95", factor=0.05, patience=3, min_delta=0.05, cooldown=50, start_from_epoch=20
            ),
            ycb.ModelCheckpoint(
                "{epoch:03d}-{mAP50-95:.4f}",
                monitor="mAP50-95",
                save_top_k=2,
                export=["onnx", "torchscript", "openvino"],
            ),
            ycb.PerClassMetrics(),
            ycb.CSVLogger(),
            ycb.PlotLogger(),
        ],
    )
    model.train(**ARGUMENTS, data=data, epochs=60, project=str(folder), name="run")
    return model, run


def test_fitness_really_rises(done):
    _, run = done
    fitness = run.history["fitness"]
    assert fitness.iloc[:3].max() < 0.1
    assert fitness.max() > 0.3


def test_the_plateau_really_stops_it(done):
    _, run = done
    assert len(run.history) < 60
    assert run.stop_reason is ycb.StopReason.PLATEAU
    assert run.history["EarlyStopping/wait"].iloc[-1] == 5
    assert "stop (plateau)" in run.history["event"].iloc[-1]


def test_the_learning_rate_really_falls_and_stays_down(done):
    _, run = done
    (drop,) = (d for d in run.decisions if isinstance(d, ycb.SetLearningRate))
    rates, factors = run.history["lr/pg0"], run.history["lr_factor"]
    assert (factors.loc[: drop.epoch] == 1.0).all()
    assert (factors.loc[drop.epoch + 1 :] == 0.05).all()
    after = rates.loc[drop.epoch + 1 :]
    assert len(after) >= 2
    assert (after < 0.06 * rates.loc[drop.epoch]).all()


def test_the_best_checkpoint_gives_the_best_metric(done, data):
    _, run = done
    manifest = json.loads((run.save_dir / "callbacks" / "run.json").read_text())
    best = max((item for item in manifest["checkpoints"] if item["role"] == "best"), key=lambda item: item["value"])
    series = run.history["metrics/mAP50-95(B)"]
    assert best["value"] == series.max()
    assert best["epoch"] == series.idxmax()
    measured = YOLO(run.save_dir / best["file"]).val(data=data, **VALIDATION)
    assert measured.box.map == pytest.approx(best["value"], abs=0.01)


def test_the_model_that_is_left_is_the_best(done, data):
    model, run = done
    measured = model.val(data=data, **VALIDATION)
    assert measured.box.map == pytest.approx(run.history["metrics/mAP50-95(B)"].max(), abs=0.01)
    assert len(run.history) == len(pd.read_csv(run.save_dir / "callbacks" / "epochs.csv"))


def test_the_best_is_exported_and_proved_to_detect_as_well(done):
    _, run = done
    items = json.loads((run.save_dir / "export" / "report.json").read_text())["exports"]
    assert [(item["format"], item["passed"]) for item in items] == [
        ("onnx", True),
        ("torchscript", True),
        ("openvino", True),
    ]
    for item in items:
        assert item["from"]["epoch"] == run.history["metrics/mAP50-95(B)"].idxmax()
        assert item["metrics"]["exported"]["metrics/mAP50(B)"] > 0.3
        assert abs(item["metrics"]["difference"]["fitness"]) <= 0.005


def test_each_class_has_a_curve_of_its_own(done):
    _, run = done
    curves = run.history[[name for name in run.history if name.startswith("mAP50-95/")]]
    assert curves.shape == (len(run.history), 4)
    assert (curves.max() > 0.1).all()
    assert curves.iloc[-1].nunique() == 4
    assert curves.mean(axis=1).tolist() == pytest.approx(run.history["metrics/mAP50-95(B)"].tolist(), abs=2e-5)
    assert run.history["worst_class"].tolist() == curves.min(axis=1).tolist()
    rows = pd.read_csv(run.save_dir / "callbacks" / "classes.csv")
    assert rows.pivot(index="epoch", columns="class", values="mAP50-95").to_numpy() == pytest.approx(
        curves[[f"mAP50-95/{name}" for name in sorted(rows["class"].unique())]].to_numpy()
    )
    assert (run.save_dir / "callbacks" / "classes.png").stat().st_size > 5000
