"""One model used in many ways: trained again, copied, tuned, in threads, in a notebook, and for other things after."""

import copy
import hashlib
import json
import pickle
import shutil
import threading

import pandas as pd
import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL, attachment_of, constant, run_json
from yolo_callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, StopReason
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.session.hook import Hook


def callbacks():
    """Reduce after the second epoch and stop after the third, if the run goes on for so long."""
    return [
        EarlyStopping(monitor=constant, mode="max", patience=2),
        ReduceLROnPlateau(monitor=constant, mode="max", factor=0.5, patience=1),
        ModelCheckpoint("kept", monitor=constant, mode="max"),
        CSVLogger(),
    ]


def scratch():
    return YOLO(TINY_MODEL, verbose=False)


@pytest.fixture
def arguments(shapes, tmp_path):
    """Arguments of the smallest training; `name` and `epochs` are to be added."""
    return {**TINY, "data": str(shapes), "project": str(tmp_path)}


@pytest.fixture(scope="module")
def weights(shapes, tmp_path_factory):
    """Weights of a model that was never attached."""
    model = scratch()
    model.train(data=str(shapes), epochs=1, project=str(tmp_path_factory.mktemp("plain")), name="plain", **TINY)
    return model.trainer.best


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def digits(folder):
    return pd.read_csv(folder / "results.csv").drop(columns="time")


def registered(model):
    return [function for functions in model.callbacks.values() for function in functions if isinstance(function, Hook)]


def assert_is_a_run_of_its_own(folder, planned=6):
    """What `callbacks` leave where the run began with fresh state, whatever ran before or beside it."""
    number = min(planned, 3)
    entries = read_journal(folder / "callbacks" / "journal.jsonl").entries
    assert [entry.record.epoch for entry in entries] == list(range(1, number + 1))
    assert [entry.record.lr_factor for entry in entries] == [1, 1, 0.5][:number]
    frame = pd.read_csv(folder / "callbacks" / "epochs.csv")
    assert frame["EarlyStopping/wait"].tolist() == [0, 1, 2][:number]
    assert frame["elapsed"].is_monotonic_increasing
    pd.testing.assert_frame_equal(frame[digits(folder).columns], digits(folder), check_dtype=False)
    noted = run_json(folder)
    assert (noted["epochs"], noted["args"]["epochs"]) == (number, planned)
    assert noted["status"] == ("stopped" if planned > 3 else "finished")
    assert [item["file"] for item in noted["checkpoints"]] == ["weights/kept.pt"]
    assert sorted(path.name for path in (folder / "weights").iterdir()) == ["best.pt", "kept.pt", "last.pt"]
    assert YOLO(folder / "weights" / "kept.pt").ckpt["epoch"] == 0


# ----------------------------------------------------------------------------------------------- again and again


def test_three_trainings_of_one_model_with_different_arguments(arguments, tmp_path):
    model = scratch()
    run, before = ycb.attach(model, callbacks()), {}
    for name, planned, different in (("one", 6, {}), ("two", 2, {"batch": 2, "lr0": 0.02}), ("three", 8, {"seed": 5})):
        model.train(**{**arguments, **different}, name=name, epochs=planned)
        assert run.save_dir == tmp_path / name
        assert_is_a_run_of_its_own(run.save_dir, planned)
        assert len(run.history) == min(planned, 3)
        assert run.stop_reason is (StopReason.PLATEAU if planned > 3 else None)
        for folder, content in before.items():
            assert hashes(folder) == content  # what was there stays as it was
        before[run.save_dir] = hashes(run.save_dir)


def test_it_does_not_matter_whether_weights_are_loaded_before_or_after_attaching(arguments, weights, tmp_path):
    early, late, plain = scratch(), scratch(), scratch()
    ycb.attach(early, callbacks())
    for model in (early, late, plain):
        model.load(weights)
    ycb.attach(late, callbacks())
    for name, model in (("early", early), ("late", late), ("plain", plain)):
        model.train(**arguments, name=name, epochs=2)
    for name in ("early", "late"):
        assert_is_a_run_of_its_own(tmp_path / name, 2)
        pd.testing.assert_frame_equal(digits(tmp_path / name), digits(tmp_path / "plain"), check_exact=True)


def test_attaching_again_replaces_and_detaching_leaves_nothing(arguments, tmp_path):
    model = scratch()
    first = ycb.attach(model, [CSVLogger("first.csv")])
    second = ycb.attach(model, [CSVLogger("second.csv")])
    model.train(**arguments, name="attached", epochs=2)
    assert (tmp_path / "attached" / "callbacks" / "second.csv").exists()
    assert not (tmp_path / "attached" / "callbacks" / "first.csv").exists()
    assert len(second.history) == 2
    assert first.history.empty
    before = hashes(tmp_path / "attached")
    ycb.detach(model)
    assert registered(model) == []
    model.train(**arguments, name="detached", epochs=2)
    files = set(hashes(tmp_path / "detached"))
    assert files == {"args.yaml", "results.csv", "weights/best.pt", "weights/last.pt"}
    assert hashes(tmp_path / "attached") == before
    assert (second.save_dir, len(second.history)) == (tmp_path / "attached", 2)
    assert not second.stop()


def test_a_training_that_fails_before_it_begins_leaves_the_model_as_it_was(arguments, tmp_path):
    model = scratch()
    run = ycb.attach(model, callbacks())
    with pytest.raises(RuntimeError, match="does not exist"):
        model.train(**{**arguments, "data": str(tmp_path / "nothing.yaml")}, name="failed", epochs=3)
    assert run.history.empty
    assert not run.stop()
    model.train(**arguments, name="good", epochs=2)
    assert_is_a_run_of_its_own(tmp_path / "good", 2)
    assert run.save_dir == tmp_path / "good"


# ----------------------------------------------------------------------------------------------- after a training


def boxes(model, picture):
    return model.predict(picture, imgsz=64, conf=0.0001, verbose=False)[0].boxes.data


def test_what_comes_after_a_training_is_as_if_nothing_had_been_attached(arguments, shapes, tmp_path):
    model = scratch()
    run = ycb.attach(model, [*callbacks(), ycb.BackupAndRestore(), ycb.PreemptionHandler()])
    model.train(**arguments, name="run", epochs=2)
    fresh = YOLO(tmp_path / "run" / "weights" / "best.pt")
    picture = next((shapes.parent / "images" / "val").iterdir())
    before, rows = hashes(tmp_path / "run"), run.history
    measured, predicted, exported = [], [], []
    for tested, name in ((model, "attached"), (fresh, "fresh")):
        validated = tested.val(data=str(shapes), imgsz=64, batch=4, plots=False, project=str(tmp_path), name=name)
        measured.append(validated.results_dict)
        predicted.append(boxes(tested, picture))
        file = tested.export(format="torchscript", imgsz=64)
        exported.append(boxes(YOLO(file, task="detect"), picture))
        before = {**before, "weights/best.torchscript": hashes(tmp_path / "run")["weights/best.torchscript"]}
        assert hashes(tmp_path / "run") == before
    assert measured[0] == measured[1]
    assert predicted[0].shape[0] > 0
    assert torch.equal(*predicted)
    assert torch.equal(*exported)
    pd.testing.assert_frame_equal(run.history, rows)
    assert run.save_dir == tmp_path / "run"


def test_predicting_and_validating_before_the_first_training(arguments, shapes, weights, tmp_path):
    model = YOLO(weights)
    run = ycb.attach(model, [*callbacks(), ycb.PreemptionHandler()])
    model.val(data=str(shapes), imgsz=64, batch=4, plots=False, project=str(tmp_path), name="val")
    boxes(model, next((shapes.parent / "images" / "val").iterdir()))
    assert run.history.empty
    assert not list(tmp_path.rglob("callbacks"))
    model.train(**arguments, name="run", epochs=3)
    assert YOLO(tmp_path / "run" / "weights" / "kept.pt").ckpt["epoch"] == 0
    assert run.history.index.tolist() == [1, 2, 3]


# ----------------------------------------------------------------------------------------------- several data sets


def test_each_of_several_data_sets_gets_a_run_of_its_own(arguments, shapes, tmp_path):
    other = shapes.with_name("other.yaml")
    shutil.copyfile(shapes, other)
    model = scratch()
    run = ycb.attach(model, callbacks())
    results = model.train(**{**arguments, "data": [str(shapes), str(other)]}, epochs=6)
    folders = [tmp_path / "multitrain" / file.stem for file in (shapes, other)]
    assert list(results) == [folder.name for folder in folders]
    assert all(results.values())
    for folder in folders:
        assert_is_a_run_of_its_own(folder)
    assert run.save_dir == folders[1]  # the newest
    assert run.history.index.tolist() == [1, 2, 3]
    assert run.stop_reason is StopReason.PLATEAU
    assert not run.stop()
    assert not (tmp_path / "multitrain" / "callbacks").exists()
    pd.testing.assert_frame_equal(*map(digits, folders), check_exact=True)  # the same pictures, weights and seed


def test_a_data_set_that_fails_costs_the_others_nothing(arguments, shapes, tmp_path):
    model = scratch()
    run = ycb.attach(model, callbacks())
    missing = str(tmp_path / "nothing.yaml")
    results = model.train(**{**arguments, "data": [missing, str(shapes), missing]}, epochs=2)
    assert [bool(measured) for measured in results.values()] == [False, True, False]
    assert_is_a_run_of_its_own(tmp_path / "multitrain" / shapes.stem, 2)
    assert run.stop_reason is None
    assert not run.stop()


# ----------------------------------------------------------------------------------------------- several models


def test_two_models_share_callbacks_in_turns(arguments, tmp_path):
    one, two, shared = scratch(), scratch(), callbacks()
    first = ycb.attach(one, shared)
    second = ycb.attach(two, shared)
    for name, model in (("a", one), ("b", two), ("c", one)):
        model.train(**arguments, name=name, epochs=6)
        assert_is_a_run_of_its_own(tmp_path / name)
    assert (first.save_dir, second.save_dir) == (tmp_path / "c", tmp_path / "b")
    ycb.detach(one)
    assert registered(one) == []
    assert len(registered(two)) == len(second.events())


def in_thread(*functions):
    """Call each function in a thread of its own, all at the same time; return the exceptions."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return errors


def test_trainings_outside_of_the_main_thread(arguments, tmp_path):
    model, others = scratch(), threading.active_count()
    run = ycb.attach(model, [*callbacks(), ycb.PreemptionHandler()])
    for name in ("one", "two"):
        assert in_thread(lambda name=name: model.train(**arguments, name=name, epochs=6)) == []
        assert_is_a_run_of_its_own(tmp_path / name)
        assert run.save_dir == tmp_path / name
    model.train(**arguments, name="main", epochs=6)
    assert_is_a_run_of_its_own(tmp_path / "main")
    assert threading.active_count() == others  # ours ended with their runs


def test_two_trainings_at_the_same_time(arguments, tmp_path):
    together = threading.Barrier(2, timeout=60)
    runs, functions = {}, []
    for name in ("one", "two"):
        model = scratch()
        runs[name] = ycb.attach(model, callbacks())
        model.add_callback("on_train_epoch_start", lambda trainer: together.wait())
        functions.append(lambda model=model, name=name: model.train(**arguments, name=name, epochs=6))
    assert in_thread(*functions) == []
    for name, run in runs.items():
        assert_is_a_run_of_its_own(tmp_path / name)
        assert run.save_dir == tmp_path / name
        assert run.history.index.tolist() == [1, 2, 3]


# ----------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_of_an_attached_model_is_attached_too(copied, arguments, tmp_path):
    model = scratch()
    run = ycb.attach(model, callbacks())
    model.train(**arguments, name="one", epochs=6)
    model.trainer = None  # Ultralytics' own trainer cannot be copied
    twin = copied(model)
    twin.train(**arguments, name="two", epochs=6)
    assert_is_a_run_of_its_own(tmp_path / "two")
    assert (run.save_dir, len(run.history)) == (tmp_path / "one", 3)
    assert attachment_of(twin).save_dir == tmp_path / "two"
    ycb.detach(twin)
    assert registered(twin) == []
    assert len(registered(model)) == len(run.events())


# ----------------------------------------------------------------------------------------------- tuning


def test_tuning_an_attached_model_works_as_without_us(arguments, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    model = scratch()
    run = ycb.attach(model, callbacks())
    model.tune(**arguments, name="tune", iterations=1, epochs=1, val=False)
    trials = (tmp_path / "tune" / "tune_results.ndjson").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in trials] == [1]
    assert (tmp_path / "tune" / "best_hyperparameters.yaml").exists()
    assert not list(tmp_path.rglob("callbacks"))  # the trials are processes of the yolo command, which knows no Python
    assert run.history.empty
    assert run.stop_reason is run.save_dir is None
    model.train(**arguments, name="after", epochs=6)
    assert_is_a_run_of_its_own(tmp_path / "after")


# ----------------------------------------------------------------------------------------------- a notebook

TRAINING = """
from tests.helpers import TINY_MODEL
from ultralytics import YOLO, settings
import yolo_callbacks as ycb
settings.update({{"sync": False, "mlflow": False}})
model = YOLO(TINY_MODEL, verbose=False)
run = ycb.attach(model)
arguments = {arguments!r}
results = model.train(**arguments, name="whole", epochs=3)
"""
INTERRUPTED = """
import time

def wait(trainer):
    if trainer.epoch == 2:
        print("waiting")
        time.sleep(100)

model = YOLO(TINY_MODEL, verbose=False)
model.add_callback("on_train_batch_end", wait)
run = ycb.attach(model)
model.train(**arguments, name="cut", epochs=4)
"""
RESUMED = """
model = YOLO(run.save_dir / "weights" / "last.pt")
run = ycb.attach(model)
results = model.train(resume=True)
"""


class Notebook:
    """A real kernel, and what its cells print and show."""

    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel

        env = {**programs.environment(), "YOLO_CONFIG_DIR": str(folder)}
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder), env=env)

    def run(self, cell, interrupt_at=None):
        """Run a cell; return what it printed to stdout and stderr, what it showed, and the name of its error."""
        printed, shown, interrupted = {"stdout": "", "stderr": ""}, [], []

        def take(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                printed[content["name"]] += content["text"]
            elif "data" in content:
                shown.append(content["data"])
            if interrupt_at and interrupt_at in printed["stdout"] and not interrupted:
                interrupted.append(True)
                self.manager.interrupt_kernel()

        reply = self.client.execute_interactive(cell, output_hook=take, timeout=120)
        return printed["stdout"], printed["stderr"], shown, reply["content"].get("ename")

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(tmp_path):
    kernel = Notebook(tmp_path)
    yield kernel
    kernel.close()


def test_a_notebook(notebook, arguments, tmp_path):
    printed, complaints, shown, error = notebook.run(TRAINING.format(arguments=arguments))
    assert (complaints, shown, error) == ("", [], None)
    assert "Traceback" not in printed
    assert "WARNING" not in printed

    _, complaints, shown, error = notebook.run("run.history")
    assert (complaints, error) == ("", None)
    assert "<p>3 rows" in shown[0]["text/html"]
    _, _, shown, _ = notebook.run("run")
    assert shown[0]["text/plain"].startswith("Attachment(")

    _, complaints, _, error = notebook.run(INTERRUPTED, interrupt_at="waiting")
    assert (complaints, error) == ("", "KeyboardInterrupt")
    assert run_json(tmp_path / "cut")["status"] == "interrupted"
    _, complaints, _, error = notebook.run(RESUMED)
    assert (complaints, error) == ("", None)
    for name, number in (("whole", 3), ("cut", 4)):
        folder = tmp_path / name
        assert run_json(folder)["status"] == "finished"
        assert pd.read_csv(folder / "callbacks" / "epochs.csv")["epoch"].tolist() == list(range(1, number + 1))
        assert (folder / "callbacks" / "curves.png").exists()
        assert (folder / "weights" / "best-fitness.pt").exists()
