"""Single classes as columns, as monitors and as a picture, on the real trainer."""

import json
from functools import partial

import pandas as pd
import pytest
import yaml
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks import (
    CSVLogger,
    EarlyStopping,
    ModelCheckpoint,
    PerClassMetrics,
    ReduceLROnPlateau,
    UnknownMetricError,
)
from yolo_callbacks.datasets import build_shapes
from yolo_callbacks.run_dir.journal import read_journal

KINDS = ["precision", "recall", "mAP50", "mAP50-95"]


def table(run):
    return pd.read_csv(run.save_dir / "callbacks" / "classes.csv")


def columns(run):
    return pd.read_csv(run.save_dir / "callbacks" / "epochs.csv")


def run_task(task, callbacks, folder, *, epochs=1, model=None, **arguments):
    root = build_shapes(folder / "data", task, train=8, val=8, size=64)
    data = root if task == "classify" else root / "data.yaml"
    suffix = {"detect": "", "segment": "-seg", "semantic": "-sem", "classify": "-cls", "depth": "-depth"}[task]
    model = YOLO(f"yolo26n{suffix}.yaml", verbose=False)
    run = ycb.attach(model, callbacks)
    model.train(data=str(data), epochs=epochs, project=str(folder), name="run", **{**TINY, **arguments})
    return run


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A data set of 80 classes, of which the four shapes occur."""
    data = build_shapes(tmp_path_factory.mktemp("crowd") / "data", train=4, val=4, size=64) / "data.yaml"
    content = yaml.safe_load(data.read_text())
    content["names"].update({number: f"absent-{number}" for number in range(4, 80)})
    data.write_text(yaml.safe_dump(content))
    return data


@pytest.fixture
def train(train, crowd):
    """Return the function that trains, on the crowd."""
    return partial(train, data=str(crowd))


# ----------------------------------------------------------------------------------------------- by name alone


@pytest.fixture(scope="module")
def watched(crowd, tmp_path_factory):
    """A training in which classes are only watched, without a `PerClassMetrics`."""
    folder = tmp_path_factory.mktemp("watched")
    model = YOLO(TINY_MODEL, verbose=False)
    run = ycb.attach(
        model,
        [
            EarlyStopping(monitor="mAP50-95/circle", patience=2, restore_best_weights=True),
            ReduceLROnPlateau(monitor="recall/triangle", patience=1),
            ModelCheckpoint("{epoch:03d}-{mAP50/square:.3f}", monitor="worst_class"),
            CSVLogger(),
        ],
    )
    model.train(data=str(crowd), epochs=9, project=str(folder), name="run", **TINY)
    return run


def test_a_class_can_be_watched_by_its_name(watched):
    assert len(watched.history) == 3
    assert watched.stop_message.startswith("stop, no improvement in mAP50-95/circle for 2 epochs")
    assert columns(watched)["EarlyStopping/wait"].tolist() == [0, 1, 2]
    assert (watched.save_dir / "weights" / "001-0.000.pt").exists()
    assert (watched.save_dir / "weights" / "restore-mAP50-95-circle.pt").exists()


def test_what_is_watched_is_recorded_and_nothing_more(watched):
    expected = ["mAP50-95/circle", "recall/triangle", "worst_class", "mAP50/square"]
    theirs = ("train/", "val/", "metrics/", "lr/", "EarlyStopping/", "ReduceLROnPlateau/")
    assert [c for c in columns(watched) if ("/" in c or c == "worst_class") and not c.startswith(theirs)] == expected
    for entry in read_journal(watched.save_dir / "callbacks" / "journal.jsonl").entries:
        assert set(expected) <= entry.record.metrics.keys()
        assert 0 <= entry.record.metrics["worst_class"] <= entry.record.metrics["mAP50-95/circle"]
    assert not (watched.save_dir / "callbacks" / "classes.csv").exists()


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EarlyStopping(monitor="mAP50-95/circl"), r"EarlyStopping: 'mAP50-95/circl': this run has no class 'circl' "
         r"\(did you mean 'circle'\?\); it has 'circle', 'triangle', .* and 72 more"),
        (ModelCheckpoint(monitor="recall/absent-7"), "no 'absent-7' occurs in the validation set, only 'circle', "),
        (ModelCheckpoint("{epoch}-{mAP50/absent-7:.2f}"), "no 'absent-7' occurs in the validation set"),
        (ReduceLROnPlateau(monitor="mIoU/circle"), "this run has no mIoU per class; it has precision, recall, "),
        (PerClassMetrics(classes=["circle", "sta"]), r"PerClassMetrics: this run has no class 'sta' \(did you mean"),
        (PerClassMetrics(metrics=["top1"]), "PerClassMetrics: this run has no top1 per class"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_fails_before_the_first_epoch(train, callback, message):
    with pytest.raises(UnknownMetricError, match=message):
        train([PerClassMetrics(), callback] if not isinstance(callback, PerClassMetrics) else [callback])


@pytest.mark.parametrize("callback", [PerClassMetrics(), EarlyStopping(monitor="worst_class")])
def test_depth_has_no_classes(tmp_path, callback):
    with pytest.raises(UnknownMetricError, match="a depth model measures distances and has no classes"):
        run_task("depth", [callback], tmp_path)


def test_a_function_sees_the_classes_that_are_listed(train):
    seen = []

    def people(m):
        seen.append((m["recall/circle"], m["worst_class"]))
        return m["recall/circle"] + m["precision/triangle"]

    listed = PerClassMetrics(classes=["circle", "triangle"], heatmap=None)
    run = train([listed, EarlyStopping(monitor=people, mode="max", patience=1)])
    assert len(run.history) == 2
    assert seen
    with pytest.raises(UnknownMetricError, match="PerClassMetrics"):
        train([EarlyStopping(monitor=people, mode="max", patience=1)])


# ----------------------------------------------------------------------------------------------- the callback


@pytest.fixture(scope="module")
def many(crowd, tmp_path_factory):
    """A training with 80 classes, most of which are absent, killed by an error and gone on with."""
    folder = tmp_path_factory.mktemp("many")
    callbacks = [
        PerClassMetrics(refresh_seconds=0),
        PerClassMetrics(classes=["circle", "triangle", "star"], filename="few.csv", heatmap="few.png"),
        CSVLogger(),
    ]

    def fail(trainer):
        if trainer.epoch == 3:
            raise RuntimeError("the machine is on fire")

    model = YOLO(TINY_MODEL, verbose=False)
    run = ycb.attach(model, callbacks)
    model.add_callback("on_train_epoch_end", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        model.train(data=str(crowd), epochs=5, project=str(folder), name="run", **TINY)
    before = table(run)
    log = run.save_dir / "callbacks" / "classes.csv"
    whole = "".join(f"4,a class,{i},,,,\n" for i in range(80))  # of an epoch that runs again
    log.write_text(f"{log.read_text()}{whole}5,circle,3,0.1", newline="")
    model = YOLO(run.save_dir / "weights" / "last.pt")
    resumed = ycb.attach(model, callbacks)
    model.train(resume=True)
    return before, resumed


def test_every_class_has_a_row_in_every_epoch(many, crowd):
    before, run = many
    assert before["epoch"].unique().tolist() == [1, 2, 3]
    rows = table(run)
    names = list(yaml.safe_load(crowd.read_text())["names"].values())
    for epoch in range(1, 6):
        assert rows[rows["epoch"] == epoch]["class"].tolist() == names
    assert len(rows) == 5 * 80
    pd.testing.assert_frame_equal(rows[rows["epoch"] <= 3], before)


def test_absent_classes_are_left_empty(many):
    rows = table(many[1])
    there = rows["instances"] > 0
    assert 3 < there.groupby(rows["epoch"]).sum().iloc[0] < 40
    assert rows[there][KINDS].notna().all(axis=None)
    assert rows[~there][KINDS].isna().all(axis=None)
    wide = columns(many[1])
    assert wide["mAP50-95/absent-7"].isna().all()
    assert wide["mAP50-95/circle"].notna().all()


def test_the_mean_of_the_classes_is_what_ultralytics_says(many):
    rows, wide = table(many[1]).set_index("epoch"), columns(many[1])
    for name in KINDS:
        means = rows[name].groupby("epoch").mean().tolist()
        assert means == pytest.approx(wide[f"metrics/{name}(B)"].tolist(), abs=2e-5)
    assert wide["worst_class"].tolist() == rows["mAP50-95"].groupby("epoch").min().tolist()
    assert wide["classes/at_zero"].tolist() == (rows["mAP50-95"] == 0).groupby("epoch").sum().tolist()


def test_columns_are_the_main_metric_where_all_would_be_too_many(many):
    wide = columns(many[1])
    main = [c for c in wide if c.startswith("mAP50-95/")]
    assert len(main) == 80
    assert {c for c in wide if c.startswith("recall/")} == {"recall/circle", "recall/star", "recall/triangle"}
    assert wide["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_the_pictures_are_drawn(many):
    folder = many[1].save_dir / "callbacks"
    assert (folder / "classes.png").stat().st_size > 20_000
    assert 5_000 < (folder / "few.png").stat().st_size < (folder / "classes.png").stat().st_size
    assert len(pd.read_csv(folder / "few.csv")) == 5 * 80  # the table has all classes at any rate


def test_so_many_classes_that_only_summaries_are_columns(train):
    run = train([PerClassMetrics(max_columns=79), CSVLogger()], epochs=1)
    wide = columns(run)
    assert not [c for c in wide if "/circle" in c]
    assert {"worst_class", "classes/p10", "classes/median", "classes/at_zero"} <= set(wide)
    assert len(table(run)) == 80
    assert len((run.save_dir / "callbacks" / "journal.jsonl").read_bytes()) < 8000


def test_only_validated_epochs_are_measured(train):
    run = train(
        [PerClassMetrics(), EarlyStopping(monitor="mAP50-95/circle", patience=5), CSVLogger()], epochs=3, val=False
    )
    assert table(run)["epoch"].unique().tolist() == [3]
    assert columns(run)["mAP50-95/circle"].isna().tolist() == [True, True, False]
    assert columns(run)["EarlyStopping/wait"].tolist() == [0, 0, 0]


def test_a_full_disk_ends_nothing(train, monkeypatch):
    from yolo_callbacks.support import storage

    append = storage.append_lines

    def full(path, text, **kwargs):
        if path.name == "classes.csv":
            raise OSError(28, "No space left on device")
        append(path, text, **kwargs)

    monkeypatch.setattr(storage, "append_lines", full)
    run = train([PerClassMetrics(heatmap=None), CSVLogger()], epochs=2)
    assert columns(run)["mAP50-95/circle"].notna().all()
    assert table(run).empty


def test_a_resume_without_the_journal_goes_on(train):
    """Ultralytics' own log has nothing of classes: those epochs count as not measured."""
    callbacks = [
        EarlyStopping(monitor="mAP50-95/circle", patience=2),
        ModelCheckpoint("{epoch}-{recall/circle:.1f}", monitor="worst_class"),
        ModelCheckpoint("{epoch}-fit-{recall/circle:.1f}"),
        CSVLogger(),
    ]

    def fail(trainer):
        if trainer.epoch == 2:
            raise RuntimeError("the machine is on fire")

    model = YOLO(TINY_MODEL, verbose=False)
    with pytest.raises(RuntimeError, match="on fire"):
        train(
            callbacks,
            model=model,
            epochs=6,
            before=lambda m: m.add_callback("on_train_epoch_end", fail),
        )
    folder = model.trainer.save_dir
    (folder / "callbacks" / "journal.jsonl").unlink()
    again = YOLO(folder / "weights" / "last.pt")
    run = ycb.attach(again, callbacks)
    again.train(resume=True)
    wide = columns(run)
    assert wide["mAP50-95/circle"].isna().tolist() == [True, True, False, False, False]
    assert wide["EarlyStopping/wait"].tolist() == [0, 0, 0, 1, 2]
    kept = json.loads((folder / "callbacks" / "run.json").read_text())["checkpoints"]
    assert "weights/3-0.0.pt" in {item["file"] for item in kept}


# ----------------------------------------------------------------------------------------------- tasks


def test_two_heads(tmp_path):
    run = run_task("segment", [PerClassMetrics(), EarlyStopping(monitor="mAP50-95/star"), CSVLogger()], tmp_path)
    assert list(table(run))[3:] == [f"{kind}({head})" for head in "BM" for kind in KINDS]
    wide = columns(run)
    assert {f"mAP50-95({head})/{name}" for head in "BM" for name in ("circle", "star")} <= set(wide)
    assert "mAP50-95/star" not in wide


def test_classification(tmp_path):
    run = run_task(
        "classify",
        [PerClassMetrics(), ModelCheckpoint("{epoch}-{top1/circle:.2f}", monitor="worst_class"), CSVLogger()],
        tmp_path,
        epochs=2,
    )
    rows = table(run)
    assert list(rows) == ["epoch", "class", "images", "top1", "top5"]
    right = (rows["top1"].fillna(0) * rows["images"]).groupby(rows["epoch"]).sum()
    mean = right / rows["images"].groupby(rows["epoch"]).sum()
    assert mean.tolist() == pytest.approx(columns(run)["metrics/accuracy_top1"].tolist(), abs=1e-4)
    assert mean.iloc[-1] > 0


def test_semantic_segmentation(tmp_path, said):
    data = build_shapes(tmp_path / "data", "semantic", train=8, val=8, size=64) / "data.yaml"
    content = yaml.safe_load(data.read_text())
    content["names"][len(content["names"])] = "ghost"
    data.write_text(yaml.safe_dump(content))
    run = run_task("semantic", [PerClassMetrics(), EarlyStopping(monitor="mIoU/ghost"), CSVLogger()], tmp_path)
    rows, wide = table(run), columns(run)
    assert list(rows) == ["epoch", "class", "pixels", "mIoU", "pixel_acc"]
    assert rows["mIoU"].mean() == pytest.approx(wide["metrics/mIoU"].item(), abs=1e-5)
    assert rows["mIoU"].isna().tolist() == [False] * 5 + [True]
    assert wide["mIoU/ghost"].isna().all()
    assert said("mIoU/ghost cannot be measured: no such class occurs in the validation set")
