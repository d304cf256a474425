"""The default five on the real trainer, and every file they leave."""

import csv
import hashlib
import json

import cv2
import pandas as pd
import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.callbacks.session_stub import stand_in_trainer
from tests.helpers import TINY
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.trainer.introspection import validates_in_its_own_way


@pytest.fixture(scope="module")
def done(coco8, tmp_path_factory):
    """One training with everything on, looked at by all tests of this file."""
    folder = tmp_path_factory.mktemp("main")
    model = YOLO("yolo26n.yaml", verbose=False)
    seen = []
    model.add_callback("on_fit_epoch_end", lambda trainer: seen.append(trainer.epoch))
    run = ycb.attach(model)
    model.train(data=str(coco8), **TINY, epochs=4, project=str(folder), name="run")
    return model, run, folder / "run", seen


def test_one_row_an_epoch_and_none_for_the_final_evaluation(done):
    _, run, folder, seen = done
    assert seen == [0, 1, 2, 3, 4]  # Ultralytics sends one more, for the final evaluation
    assert list(run.history.index) == [1, 2, 3, 4]
    assert [entry.record.epoch for entry in read_journal(folder / "callbacks" / "journal.jsonl").entries] == [
        1,
        2,
        3,
        4,
    ]
    assert len(pd.read_csv(folder / "callbacks" / "epochs.csv")) == 4


def test_a_real_trainer_has_all_that_the_stand_in_has(done, tmp_path):
    """So that what is proved with `SessionStub` holds for a training."""
    trainer, stand_in = done[0].trainer, stand_in_trainer(tmp_path, planned=4)
    for name, value in vars(stand_in).items():
        real = getattr(trainer, name)
        if name in ("validate", "validator"):
            continue  # of these it only matters whose they are
        if name == "optimizer":
            assert set(value.param_groups[0]) <= set(real.param_groups[0])
        elif name == "train_loader":
            assert len(real) == len(value)
            assert len(real.dataset)
        else:
            assert isinstance(real, type(value)), name
        if isinstance(value, dict):
            assert set(value) <= set(real), name
    assert set(vars(stand_in.args)) <= set(vars(trainer.args))
    assert set(stand_in.loss_names) <= set(trainer.loss_names)
    assert trainer.epochs == stand_in.epochs
    assert validates_in_its_own_way(trainer) is validates_in_its_own_way(stand_in) is False


def test_the_csv_has_what_is_promised(done):
    _, run, folder, _ = done
    frame = pd.read_csv(folder / "callbacks" / "epochs.csv", index_col="epoch")
    own = pd.read_csv(folder / "results.csv", index_col="epoch")
    for column in [name for name in own.columns if name != "time"]:
        assert frame[column].tolist() == pytest.approx(own[column].tolist(), rel=1e-4), column
    for column in ("lr_factor", "seconds", "images_per_second", "rss_gb", "elapsed", "EarlyStopping/wait", "event"):
        assert column in frame
    assert (frame["lr_factor"] == 1.0).all()
    assert (frame["seconds"] > 0).all()
    assert frame["elapsed"].is_monotonic_increasing
    assert frame["validated"].all()
    assert frame.loc[1, "event"] == "ModelCheckpoint: best -> best-fitness.pt"
    pd.testing.assert_frame_equal(
        frame.drop(columns="event"), run.history.drop(columns="event"), check_exact=True, check_dtype=False
    )


def test_ultralytics_files_are_what_they_would_have_been(done):
    _, _, folder, _ = done
    with open(folder / "results.csv", newline="") as file:
        header = next(csv.reader(file))
    assert not any("lr_factor" in name or "wait" in name for name in header)
    assert (folder / "weights" / "best.pt").exists()
    assert (folder / "weights" / "last.pt").exists()


def test_run_json(done):
    _, _, folder, _ = done
    data = json.loads((folder / "callbacks" / "run.json").read_text())
    assert (data["status"], data["stop"], data["epochs"], data["error"]) == ("finished", None, 4, None)
    assert data["args"]["imgsz"] == 64
    assert set(data["versions"]) == {"python", "yolo_callbacks", "ultralytics", "torch"}
    assert list(data["callbacks"]) == [
        "EarlyStopping",
        "ReduceLROnPlateau",
        "ModelCheckpoint",
        "CSVLogger",
        "PlotLogger",
    ]
    (best,) = data["checkpoints"]
    content = (folder / best["file"]).read_bytes()
    assert (best["bytes"], best["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_picture(done):
    _, _, folder, _ = done
    image = cv2.imread(str(folder / "callbacks" / "curves.png"))
    assert image.shape[1] > 1200
    assert len({tuple(pixel) for pixel in image.reshape(-1, 3)[::7]}) > 20


def test_the_kept_checkpoint_loads_and_can_be_resumed_from(done):
    _, _, folder, _ = done
    kept = YOLO(folder / "weights" / "best-fitness.pt")
    assert kept.ckpt["epoch"] >= 0
    assert kept.ckpt["optimizer"] is not None


def test_nothing_but_the_documented_files(done):
    _, _, folder, _ = done
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "args.yaml",
        "results.csv",
        "weights/best.pt",
        "weights/last.pt",
        "weights/best-fitness.pt",
        "callbacks/journal.jsonl",
        "callbacks/epochs.csv",
        "callbacks/curves.png",
        "callbacks/run.json",
    }


def test_what_the_attachment_says(done):
    _, run, folder, _ = done
    assert run.save_dir == folder
    assert run.stop_reason is None
    assert run.stop_message is None
    assert [d.kind for d in run.decisions] == ["save_checkpoint"] * len(run.decisions)
    assert run.stop() is False  # the run is over
