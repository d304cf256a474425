import hashlib
import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from yolo_callbacks.datasets import SHAPES, build_shapes
from yolo_callbacks.datasets.scenes import CLASS_NAMES, draw_scene

SMALL = {"train": 6, "val": 3, "size": 64}
NAMES = {"semantic": [*CLASS_NAMES, "background"], "depth": ["depth"]}  # the others have the shapes alone


def digest(folder: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return content.hexdigest()


def test_the_same_seed_builds_the_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_shapes(tmp_path / name, seed=seed, **SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


@pytest.mark.parametrize(("task", "columns"), [("detect", 5), ("pose", 17), ("obb", 9)])
def test_labels_have_the_columns_of_their_task(tmp_path, task, columns):
    root = build_shapes(tmp_path / task, task, **SMALL)
    assert len(list((root / "images" / "train").iterdir())) == 6
    for label in (root / "labels").rglob("*.txt"):
        for line in label.read_text().splitlines():
            values = [float(word) for word in line.split()]
            assert len(values) == columns
            assert values[0] in range(4)
            assert all(0 <= v <= 1 or v == 2 for v in values[1:])


def shapes_of(index, max_objects=3):
    """Return the scene of a training picture of `build_shapes` with these arguments."""
    return draw_scene(np.random.default_rng([0, 0, index]), size=SMALL["size"], max_objects=max_objects)


def read_map(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_mask_has_the_class_of_each_pixel(tmp_path):
    root = build_shapes(tmp_path / "semantic", "semantic", **SMALL)
    assert not (root / "labels").exists()
    for index in range(SMALL["train"]):
        mask, scene = read_map(root / "masks" / "train" / f"{index:05d}.png"), shapes_of(index)
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) == {4, *(shape.cls for shape in scene.shapes)}
        for shape in scene.shapes:
            x, y = shape.outline.mean(axis=0).astype(int)
            assert mask[y, x] == shape.cls
            x1, y1, x2, y2 = shape.box
            assert 0.2 < np.mean(mask[round(y1) : round(y2) + 1, round(x1) : round(x2) + 1] == shape.cls) <= 1


def test_a_depth_map_has_millimetres_and_every_shape_is_nearer_than_the_background(tmp_path):
    root = build_shapes(tmp_path / "depth", "depth", **SMALL)
    for index in range(SMALL["train"]):
        depth, scene = read_map(root / "depth" / "train" / f"{index:05d}.png"), shapes_of(index)
        assert depth.shape == (64, 64)
        assert depth.dtype == np.uint16
        near = depth < 4000
        for shape in scene.shapes:
            x, y = shape.outline.mean(axis=0).astype(int)
            assert 1250 <= depth[y, x] == round(1000 * shape.distance) <= 3000
            assert near[y, x]
        assert 4000 <= depth[~near].min() <= depth[~near].max() <= 40000


def test_there_are_shapes_for_every_task_of_ultralytics():
    from ultralytics.cfg import TASKS

    assert set(TASKS) <= {*SHAPES, "classify"}


@pytest.mark.parametrize("task", ["semantic", "depth"])
def test_ultralytics_finds_every_map(tmp_path, task):
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(build_shapes(tmp_path / task, task, **SMALL) / "data.yaml"))
    settings = get_cfg(overrides={"task": task, "imgsz": 64})
    pictures = build_yolo_dataset(settings, data["train"], 2, data, mode="val")
    assert len(pictures) == 6
    item, scene = pictures[0], shapes_of(0)
    x, y = scene.shapes[0].outline.mean(axis=0).astype(int)
    if task == "semantic":
        assert item["semantic_mask"][y, x] == scene.shapes[0].cls
    else:
        assert item["depth"].squeeze()[y, x] == pytest.approx(scene.shapes[0].distance, abs=0.001)


def test_classify_has_a_folder_a_class(tmp_path):
    root = build_shapes(tmp_path / "cls", "classify", train=30, val=30, size=64)
    for split in ("train", "val"):
        assert {path.name for path in (root / split).iterdir()} == set(CLASS_NAMES)
    crop = cv2.imread(str(next((root / "train" / "star").iterdir())))
    assert min(crop.shape[:2]) >= 8


@pytest.mark.parametrize("task", SHAPES)
def test_a_set_of_ones_own_can_be_trained_on(tmp_path, task):
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(build_shapes(tmp_path / task, task, **SMALL) / "data.yaml"))
    ready_made = yaml.safe_load(SHAPES[task].read_text())
    assert len(list(Path(data["train"]).iterdir())) == 6
    for key in ("names", "kpt_shape", "flip_idx", "masks_dir", "depth_scale"):
        assert data.get(key) == ready_made.get(key)


def test_building_twice_leaves_it_alone_and_no_litter(tmp_path):
    root = build_shapes(tmp_path / "shapes", **SMALL)
    marker = root / "images" / "train" / "mine.jpg"
    marker.write_bytes(b"")
    build_shapes(root, **SMALL)
    assert marker.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def _build(root):
    build_shapes(root, **SMALL)


def test_two_processes_may_build_it_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build, args=(tmp_path / "shapes",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert len(list((tmp_path / "shapes" / "images" / "train").iterdir())) == 6


@pytest.mark.parametrize("task", SHAPES)
def test_ultralytics_builds_it_by_itself_on_first_use(task):
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(SHAPES[task]))
    assert list(data["names"].values()) == NAMES.get(task, list(CLASS_NAMES))
    assert len(list(Path(data["train"]).iterdir())) == 256
    assert len(list(Path(data["val"]).iterdir())) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"task": "flow"},
            "task='flow' is not one of 'detect', 'segment', 'pose', 'obb', 'semantic', 'depth', 'classify'",
        ),
        ({"size": 8}, "size=8 must be >= 32"),
        ({"train": 0}, "train=0 must be >= 1"),
        ({"noise": -1}, "noise=-1 must be a finite number >= 0"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError) as caught:
        build_shapes(tmp_path / "x", **arguments)
    assert message in str(caught.value)
    assert not (tmp_path / "x").exists()
