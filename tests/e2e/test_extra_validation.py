"""A second data set every few epochs: its metrics are there, and the training does not notice."""

import os
import signal

import pandas as pd
import pytest
import yaml
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, crash_in, journal, run_json, tiny_model
from yolo_callbacks.datasets import build_shapes

OF_THE_CLOCK = ["elapsed", "seconds", "images_per_second", "rss_gb", "time"]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """The YAML of other pictures of the same shapes."""
    root = build_shapes(tmp_path_factory.mktemp("data") / "night", "detect", train=1, val=3, size=64, seed=7)
    return (root / "data.yaml").rename(root / "night.yaml")


def changed(file, to, **entries):
    """Write a copy of a data set's YAML with other entries, and return its path."""
    content = {**yaml.safe_load(file.read_text()), "path": str(file.parent), **entries}
    to.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return to


class Events(ycb.Callback):
    """Counts the events of validations, and notes how often another one's batches were told of."""

    def __init__(self):
        self.seen, self.batches = [], 0

    def on_val_start(self, validator):
        self.seen.append("start")

    def on_val_batch_end(self, validator):
        self.seen.append("batch")

    def on_val_end(self, validator):
        self.seen.append("end")

    def between_batches(self):
        self.batches += 1


@pytest.fixture
def both(train, shapes, night, tmp_path):
    """A training without and one with two more validations: of the same pictures, and of others."""
    same = changed(shapes, tmp_path / "same.yaml")
    extras = [ycb.ExtraValidation(same, every=3, prefix="same"), ycb.ExtraValidation(night, every=3, prefix="night")]
    train([], name="first", epochs=1, val=False)  # writes the cache of the labels, and older versions draw for that
    runs = []
    for name, more in (("without", []), ("with", extras)):
        events = Events()
        callbacks = [*more, events, ycb.PerClassMetrics(heatmap=None), ycb.ActivationMonitor([0]), ycb.CSVLogger()]
        runs.append((train(callbacks, name=name, epochs=4, cache="ram", batch=2, nbs=2), events))
    return runs


def read(run, name):
    frame = pd.read_csv(run.save_dir / name)
    return frame.drop(columns=[column for column in OF_THE_CLOCK if column in frame])


def test_it_measures_and_the_training_has_the_same_digits(both, said):
    (without, before), (measured, events) = both
    table = read(measured, "callbacks/epochs.csv").set_index("epoch")
    for prefix in ("same", "night"):
        mine = table[[column for column in table if column.startswith(f"{prefix}/")]]
        names = ("fitness", "metrics/mAP50-95(B)", "metrics/recall(B)", "box_loss", "cls_loss", "l1_loss")
        assert {f"{prefix}/{name}" for name in names} < set(mine)
        assert mine.notna().all(axis=1).tolist() == [True, False, True, True]
        assert mine.isna().all(axis=1).tolist() == [False, True, False, False]
    for name in ("box_loss", "cls_loss", "l1_loss"):
        due = table.loc[[1, 3, 4]]
        assert due[f"same/{name}"].tolist() == due[f"val/{name}"].tolist()
        assert due[f"night/{name}"].tolist() != due[f"val/{name}"].tolist()

    others = [column for column in table if not column.startswith(("same/", "night/"))]
    pd.testing.assert_frame_equal(
        read(without, "callbacks/epochs.csv").set_index("epoch"), table[others], check_exact=True
    )
    for name in ("results.csv", "callbacks/classes.csv"):
        pd.testing.assert_frame_equal(read(without, name), read(measured, name), check_exact=True)
    for name in ("last.pt", "best.pt"):
        first, second = (torch_load(run.save_dir / "weights" / name, "cpu") for run in (without, measured))
        assert first["train_metrics"] == second["train_metrics"]
        states = first["model"].state_dict(), second["model"].state_dict()
        assert all(states[0][key].equal(states[1][key]) for key in states[0])
    assert events.seen == before.seen
    assert (before.batches, events.batches) == (0, 3 * (1 + 1))
    assert {file.name for file in without.save_dir.iterdir()} == {file.name for file in measured.save_dir.iterdir()}


def test_a_callback_can_decide_by_it_and_a_resumed_run_measures_the_same_epochs(train, night, tmp_path):
    def callbacks():
        return [
            ycb.ExtraValidation(night, every=2),
            ycb.EarlyStopping(monitor="test/metrics/mAP50-95(B)", patience=2),
            ycb.ModelCheckpoint(monitor="test/mAP50-95", mode="max"),
        ]

    settings = {"epochs": 12, "close_mosaic": 0, "val": False}
    with pytest.raises(KeyboardInterrupt):
        train(
            callbacks(),
            before=lambda m: m.add_callback("on_train_batch_end", crash_in(3, KeyboardInterrupt)),
            **settings,
        )
    run = train(callbacks(), model=YOLO(tmp_path / "run" / "weights" / "last.pt"), resume=True)
    values = run.history["test/metrics/mAP50-95(B)"]
    assert values.index[values.notna()].tolist() == [1, 2, 4]  # 0 in each, so the patience ends in the third
    assert run.stop_reason is ycb.StopReason.PLATEAU
    assert run.history["EarlyStopping/wait"].tolist() == [0, 1, 1, 3]  # epochs, not values
    assert "metrics/mAP50-95(B)" not in run.history  # val=False is of the trainer's own validation
    assert run_json(run.save_dir)["checkpoints"][0]["epoch"] == 1


def test_a_signal_ends_it_after_a_batch(train, night, tmp_path):
    class Kills(ycb.Callback):
        def between_batches(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as left:
        train([Kills(), ycb.ExtraValidation(night), ycb.PreemptionHandler()], epochs=2)
    assert left.value.code == 143
    assert (tmp_path / "run" / "weights" / "preempted.pt").exists()


PROGRAM = """
import os, sys
from ultralytics import YOLO
import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL

class Dies(ycb.Callback):
    def setup(self, session):
        self.run = session.run

    def between_batches(self):
        if self.run.epoch == 3:
            os._exit(9)

data, other, project = sys.argv[1:]
model = YOLO(TINY_MODEL, verbose=False)
ycb.attach(model, [Dies(), ycb.ExtraValidation(other, every=1)])
model.train(data=data, project=project, name="run", **{**TINY, "epochs": 4})
"""


def test_a_kill_within_it_repeats_the_epoch(train, shapes, night, tmp_path):
    assert programs.run(["-c", PROGRAM, shapes, night, tmp_path]).returncode == 9
    before = {entry.record.epoch: dict(entry.record.metrics) for entry in journal(tmp_path / "run").entries}
    assert list(before) == [1, 2]
    model = YOLO(tmp_path / "run" / "weights" / "last.pt")
    run = train([ycb.ExtraValidation(night, every=1)], model=model, resume=True)
    measured = run.history["test/box_loss"]
    assert measured.index.tolist() == [1, 2, 3, 4]
    assert measured.notna().all()
    assert measured[:2].tolist() == [before[epoch]["test/box_loss"] for epoch in (1, 2)]
    assert pd.read_csv(run.save_dir / "results.csv")["epoch"].tolist() == [1, 2, 3, 4]


class Counting(DetectionValidator):
    def get_stats(self):
        return {**super().get_stats(), "metrics/pictures": float(self.seen)}


class CustomTrainer(DetectionTrainer):
    def get_validator(self):
        return Counting(self.test_loader, save_dir=self.save_dir, args=self.args, _callbacks=self.callbacks)


def test_a_custom_validator_is_used_and_an_error_in_it_is_logged_and_decides_nothing(train, tmp_path, said):
    root = build_shapes(tmp_path / "night", "detect", train=1, val=3, size=64)
    picture = sorted((root / "images" / "val").iterdir())[0]

    def lose_and_find(trainer):
        if trainer.epoch in (1, 2):
            picture.rename(tmp_path / picture.name) if trainer.epoch == 1 else (tmp_path / picture.name).rename(picture)

    callbacks = [
        ycb.ExtraValidation(root / "data.yaml", every=1),
        ycb.EarlyStopping(monitor="test/metrics/pictures", mode="max", patience=3),
    ]
    run = train(
        callbacks,
        before=lambda m: m.add_callback("on_train_epoch_start", lose_and_find),
        epochs=4,
        close_mosaic=0,
        trainer=CustomTrainer,
    )
    assert run.history["test/metrics/pictures"].fillna(0).tolist() == [3, 0, 3, 3]
    assert run.history["metrics/pictures"].tolist() == [4, 4, 4, 4]
    assert run.history["EarlyStopping/wait"].tolist() == [0, 0, 2, 3]  # an epoch without a value does not count
    assert len(said("ExtraValidation.measure failed; training continues: FileNotFoundError")) == 1


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_other_tasks_and_another_split_of_the_same_data(task, tmp_path):
    root = build_shapes(tmp_path / "data", task, train=4, val=4, size=64)
    model = YOLO(tiny_model(task, tmp_path), verbose=False)
    data = root if task == "classify" else changed(root / "data.yaml", tmp_path / "own.yaml", test="images/val")
    split = "train" if task == "classify" else None
    run = ycb.attach(model, [ycb.ExtraValidation(split=split, prefix="other")])
    model.train(**TINY, data=str(data), epochs=1, project=str(tmp_path), name="run")
    found = {name: value for name, value in run.history.iloc[0].items() if name.startswith("other/")}
    pairs = {
        name: run.history[name.replace("other/", "val/" if name.endswith("loss") else "")][1]
        for name in found
        if name != "other/fitness"
    }
    assert len(found) > 3
    if task == "segment":  # `test` has the pictures of `val`
        assert {name: found[name] for name in pairs} == pairs
    else:
        assert found["other/loss"] != run.history["val/loss"][1]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"names": {0: "circle"}, "nc": None}, r"it has 1 classes, and the training has \d+; both must have the same"),
        ({"names": "turned round"}, "its class 0 is '.+', and the training's is '.+'; both must have the same classes"),
        ({"val": "images/nowhere"}, "nowhere"),
        ({"channels": 1}, "its channels is 1, and the training's is 3"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_before_the_first_epoch(entries, why, train, night, tmp_path):
    if entries.get("names") == "turned round":
        names = yaml.safe_load(night.read_text())["names"]
        names = list(names.values()) if isinstance(names, dict) else names
        entries = {"names": dict(enumerate(reversed(names)))}
    other = changed(night, tmp_path / "other.yaml", **entries)
    with pytest.raises(ValueError, match=rf"^ExtraValidation: .*other\.yaml: .*{why}"):
        train([ycb.ExtraValidation(other)])
    assert not (tmp_path / "run" / "results.csv").exists()


def test_what_cannot_be_meant_is_refused_before_the_first_epoch(train, night):
    with pytest.raises(ValueError, match=r"shapes\.yaml: it has no split 'test'"):
        train([ycb.ExtraValidation()])
    with pytest.raises(ValueError, match="the trainer itself validates on split 'val' of its data"):
        train([ycb.ExtraValidation(split="val")])
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        train([ycb.ExtraValidation("nowhere.yaml")])
    with pytest.raises(ValueError, match="ExtraValidation and ExtraValidation-2 have the same prefix='test'"):
        train([ycb.ExtraValidation(night), ycb.ExtraValidation(night, every=1)])
    with pytest.raises(ycb.UnknownMetricError, match=r"test/recal\(B\).*did you mean"):
        train([ycb.ExtraValidation(night), ycb.EarlyStopping(monitor="test/recal(B)", mode="max")])
