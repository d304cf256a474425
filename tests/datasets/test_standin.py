"""The stand-in for coco8: the same layout and classes, in a folder of its own."""

from pathlib import Path

import ultralytics
import yaml

from yolo_callbacks.datasets.standin import build_coco8_standin


def test_it_is_as_coco8_and_leaves_the_place_of_coco8_free(tmp_path):
    file = build_coco8_standin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["coco8-standin"]
    original = Path(ultralytics.__file__).parent / "cfg" / "datasets" / "coco8.yaml"
    coco8, data = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (original, file))
    assert data == {"path": str(file.parent), **{key: coco8[key] for key in ("train", "val", "names")}}
    for split in (data["train"], data["val"]):
        images = sorted((file.parent / split).iterdir())
        labels = [file.parent / "labels" / Path(split).name / f"{image.stem}.txt" for image in images]
        assert len(images) == 4
        numbers = [int(line.split()[0]) for label in labels for line in label.read_text().splitlines()]
        assert numbers
        assert set(numbers) <= set(data["names"])
    assert "in place of coco8" in file.read_text(encoding="utf-8").splitlines()[0]


def test_what_is_there_is_kept_and_a_folder_that_was_moved_is_found(tmp_path):
    file = build_coco8_standin(tmp_path / "before")
    before = {path: path.stat().st_mtime_ns for path in file.parent.rglob("*.*g")}
    assert build_coco8_standin(tmp_path / "before") == file
    assert {path: path.stat().st_mtime_ns for path in file.parent.rglob("*.*g")} == before
    (tmp_path / "before").rename(tmp_path / "after")
    moved = build_coco8_standin(tmp_path / "after")
    assert yaml.safe_load(moved.read_text(encoding="utf-8"))["path"] == str(tmp_path / "after" / "coco8-standin")
