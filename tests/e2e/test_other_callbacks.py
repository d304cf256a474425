"""Others in the same trainer: Ultralytics' own integrations, and users' functions that do what one should not do."""

import json
import struct

import pandas as pd
import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, journal, run_json
from tests.odd_values import NUMBERS, ODD
from tests.platform_server import Platform, train_in_process
from yolo_callbacks import StopReason
from yolo_callbacks.core.events import TRAIN_EVENTS
from yolo_callbacks.session.hook import LIFECYCLE_EVENTS


def epochs(folder):
    return [entry.record.epoch for entry in journal(folder).entries]


def rows(folder):
    return pd.read_csv(folder / "callbacks" / "epochs.csv")["epoch"].tolist()


def ultralytics_rows(folder):
    return pd.read_csv(folder / "results.csv")["epoch"].tolist()


def assert_is_whole(folder, number):
    """All that is left of a run has the same epochs, and its checkpoints load."""
    expected = list(range(1, number + 1))
    assert epochs(folder) == rows(folder) == ultralytics_rows(folder) == expected
    assert run_json(folder)["epochs"] == number
    for name in ("best", "last", "best-fitness"):
        assert YOLO(folder / "weights" / f"{name}.pt").ckpt["train_args"]["imgsz"] == 64


# ----------------------------------------------------------------------------------------------- integrations

# In a process of its own: the integrations are off wherever pytest is loaded.
PROGRAM = """
import json, sys
from tests.helpers import TINY_MODEL
from ultralytics import YOLO, settings
import yolo_callbacks as ycb

data, project, arguments, numbers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
settings.update({"sync": False, "tensorboard": True, "mlflow": True, "wandb": True})
# the first training of a process may draw other random numbers than all later ones: it is not compared
for name, epochs in (("first", 1), ("without", 3), ("with", 3), ("numbers", 3), ("cancelled", 200), ("refused", 200)):
    model = YOLO(TINY_MODEL, verbose=False)
    more = [ycb.PlatformLogger(numbers)] if name == "numbers" else []
    ours = ycb.default_callbacks()[: None if name in ("with", "cancelled") else -1]  # pictures take long
    run = ycb.attach(model, [*ours, *more]) if name not in ("first", "without") else None
    model.train(data=data, project=project, name=name, epochs=epochs, **arguments)
    if run is not None:
        print("STOP", name, run.stop_reason)
"""


# what PlatformLogger adds for a run; names that not every integration takes as they are
CHOSEN = {"Déjà vu (50 %)": "recall", "waited/epochs": "EarlyStopping/wait", "waited": "lr_factor"}
SENT = {"custom/Déjà_vu_50_": "metrics/recall(B)", "custom/waited_epochs": None, "custom/waited": "lr_factor"}


def cancel(platform, request):
    return {"cancelled": True} if request["data"]["epoch"] >= 2 else None


def refuse(platform, request):
    return {"modelId": "refused", "runId": 1, "cancelled": True}


class Runs:
    """What the trainings with all integrations have left."""

    def __init__(self, folder, platform, output):
        self.folder, self.platform, self.output = folder, platform, output

    def __getitem__(self, name):
        return self.folder / "runs" / name


@pytest.fixture(scope="module")
def runs(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("integrations")
    platform = Platform({("cancelled", "epoch_end"): cancel, ("refused", "training_started"): refuse})
    environment = {
        "MLFLOW_TRACKING_URI": (folder / "mlflow").as_uri(),
        "MLFLOW_EXPERIMENT_NAME": "trial",
        "MLFLOW_ALLOW_FILE_STORE": "true",  # its other store needs the large package
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    words = [str(shapes), str(folder / "runs"), json.dumps(TINY), json.dumps(CHOSEN)]
    done = train_in_process(PROGRAM, words, folder, platform, **environment)
    platform.close()
    assert done.returncode == 0, done.stdout + done.stderr
    return Runs(folder, platform, done.stdout + done.stderr)


def test_beside_the_integrations_a_training_is_whole(runs):
    assert_is_whole(runs["with"], 3)
    assert run_json(runs["with"])["status"] == "finished"
    assert "Traceback" not in runs.output
    assert "Failed to" not in runs.output
    frames = [pd.read_csv(runs[name] / "results.csv").drop(columns="time") for name in ("without", "with")]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    own = pd.read_csv(runs["with"] / "callbacks" / "epochs.csv")
    pd.testing.assert_frame_equal(own[frames[1].columns], frames[1], check_dtype=False)


def test_tensorboard_gets_the_same_points(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = []
    for name in ("without", "with"):
        events = EventAccumulator(str(runs[name])).Reload()
        tags = events.Tags()
        assert tags["graph"]
        points.append({tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in tags["scalars"]})
    assert points[0] == points[1]
    steps = {tag: [step for step, _ in values] for tag, values in points[1].items()}
    assert steps["train/box_loss"] == [1, 2, 3]
    assert steps["metrics/mAP50(B)"] == [1, 2, 3, 4]  # its own last point is the final evaluation's


def files_of_mlflow(client, run, path=None):
    for item in client.list_artifacts(run, path):
        yield from files_of_mlflow(client, run, item.path) if item.is_dir else [item.path]


def test_ml_flow_gets_the_same_points_and_files(runs, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((runs.folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("trial").experiment_id
    found = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(found) == {"first", "without", "with", "numbers", "cancelled", "refused"}
    points, parameters, files = [], [], []
    for name in ("without", "with"):
        run = found[name]
        assert run.info.status == "FINISHED"
        histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        points.append({key: [(item.step, item.value) for item in history] for key, history in histories.items()})
        parameters.append({key: value for key, value in run.data.params.items() if key not in ("name", "save_dir")})
        files.append(set(files_of_mlflow(client, run.info.run_id)))
    assert points[0] == points[1]
    assert [step for step, _ in points[1]["train/box_loss"]] == [0, 1, 2]
    assert parameters[0] == parameters[1]
    assert files[1] - files[0] == {"weights/best-fitness.pt"}  # and no scratch files
    assert files[0] <= files[1]


def expected_numbers(runs):
    """Return what an integration has to have got: name -> one value an epoch."""
    entries = [entry.numbers for entry in journal(runs["numbers"]).entries]
    sources = {name: source or "EarlyStopping/wait" for name, source in SENT.items()}
    return {name: [numbers[source] for numbers in entries] for name, source in sources.items()}


def test_numbers_of_a_user_reach_every_integration(runs, monkeypatch):
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    expected = expected_numbers(runs)
    assert expected["custom/waited_epochs"] != [0, 0, 0]

    sent = sorted(runs.platform.of("numbers", "epoch_end"), key=lambda item: item["epoch"])
    assert {name: [item["metrics"][name] for item in sent[:3]] for name in SENT} == expected
    assert not set(SENT) & set(sent[3]["metrics"])  # the final evaluation is no epoch
    assert not set(SENT) & set(runs.platform.of("numbers", "training_complete")[0]["results"]["metrics"])

    rows = [row for row in wandb_history(runs["numbers"]) if "custom/waited" in row]
    assert {name: [row[name] for row in rows] for name in SENT} == expected

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((runs.folder / "mlflow").as_uri())
    found = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    (run,) = (run.info.run_id for run in found if run.info.run_name == "numbers")
    histories = {name: [item.value for item in client.get_metric_history(run, name)] for name in SENT}
    assert histories == expected

    events = EventAccumulator(str(runs["numbers"])).Reload()
    for name in SENT:
        assert [item.value for item in events.Scalars(name)] == pytest.approx(expected[name])


def test_numbers_of_a_user_are_in_no_file_of_the_trainer(runs):
    frames = [pd.read_csv(runs[name] / "results.csv").drop(columns="time") for name in ("without", "numbers")]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    kept = [torch.load(runs[name] / "weights" / "last.pt", weights_only=False) for name in ("without", "numbers")]
    assert kept[0]["train_metrics"] == kept[1]["train_metrics"]
    assert list(kept[0]["train_results"]) == list(kept[1]["train_results"])
    assert not set(SENT) & set(journal(runs["numbers"]).entries[-1].numbers)


def wandb_history(folder):
    """Read the rows of a W&B run that was not sent: records in blocks, as in a log of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, text, history = file.read_bytes(), 7, b"", []
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        text += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record, text = Record.FromString(text), b""
            if record.WhichOneof("record_type") == "history":
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                history.append({key: json.loads(value) for key, value in items.items()})
    return history


def test_weights_and_biases_gets_the_same_points(runs):
    changing = ("_timestamp", "_runtime", "model/speed_PyTorch(ms)")
    histories = [
        [{key: value for key, value in row.items() if key not in changing} for row in wandb_history(runs[name])]
        for name in ("without", "with")
    ]
    assert histories[0] == histories[1]
    assert len([row for row in histories[1] if "train/box_loss" in row]) == 3
    assert len([row for row in histories[1] if "metrics/mAP50(B)" in row]) == 4


def test_the_platform_gets_the_same_points_and_the_model(runs):
    platform = runs.platform
    points = []
    for name in ("without", "with"):
        # sent by several threads, so not in order
        sent = sorted(platform.of(name, "epoch_end"), key=lambda item: item["epoch"])
        points.append([(item["epoch"], item["fitness"], item["metrics"]) for item in sent])
        (complete,) = platform.of(name, "training_complete")
        points[-1].append((complete["results"]["bestEpoch"], complete["results"]["metrics"], complete["classNames"]))
        assert platform.uploads[name] == (runs[name] / "weights" / "best.pt").read_bytes()
    assert points[0] == points[1]
    assert [item[0] for item in points[1]][:-1] == [0, 1, 2, 3]


def test_a_run_cancelled_from_the_platform_ends_with_everything_saved(runs):
    folder = runs["cancelled"]
    number = len(rows(folder))
    assert 3 <= number < 200
    assert_is_whole(folder, number)
    assert f"STOP cancelled {StopReason.CANCELLED}" in runs.output
    assert run_json(folder)["status"] == "stopped"
    stop = {"reason": "cancelled", "message": "cancelled from the Ultralytics Platform", "epoch": number}
    assert run_json(folder)["stop"] == stop
    assert journal(folder).entries[-1].stop.reason is StopReason.CANCELLED
    assert (folder / "callbacks" / "curves.png").exists()
    assert runs.platform.uploads["cancelled"] == (folder / "weights" / "best.pt").read_bytes()


def test_a_run_cancelled_before_it_began_ends_after_one_epoch(runs):
    assert_is_whole(runs["refused"], 1)
    assert run_json(runs["refused"])["stop"]["reason"] == StopReason.CANCELLED.value


# ----------------------------------------------------------------------------------------------- users' functions


@pytest.fixture(params=["before ours", "after ours"])
def train_beside(request, train):
    """Return a function that trains with our callbacks and users' functions, registered before or after them."""

    def run(functions, **arguments):
        def register(model):
            for event, function in functions:
                model.add_callback(event, function)

        model = YOLO(TINY_MODEL, verbose=False)
        if run.first:
            register(model)
        return train(quick(), model=model, before=None if run.first else register, **arguments)

    run.first = request.param == "before ours"
    return run


def quick():
    """Return the default callbacks but the one that draws: a picture takes longer than such a training."""
    return ycb.default_callbacks()[:-1]


class Trouble(Exception):
    pass


@pytest.mark.parametrize("event", ["on_fit_epoch_end", "on_train_batch_end"])
def test_an_error_of_a_user_comes_out_and_the_run_can_be_resumed(event, train_beside, tmp_path):
    def fail(trainer):
        if trainer.epoch == 2:
            raise Trouble("the third epoch")

    with pytest.raises(Trouble, match="the third epoch"):
        train_beside([(event, fail)], epochs=4)
    folder = tmp_path / "run"
    noted = run_json(folder)
    assert (noted["status"], noted["error"]) == ("failed", "Trouble: the third epoch")
    complete = [1, 2, 3] if event == "on_fit_epoch_end" and not train_beside.first else [1, 2]
    assert epochs(folder) == rows(folder) == complete
    pending = journal(folder).pending
    # the third epoch has its checkpoint, but what was to follow from it was not decided
    announced = event == "on_fit_epoch_end" and train_beside.first
    assert (pending.epoch if pending else None) == (3 if announced else None)
    assert not list(folder.rglob("*.tmp"))

    model = YOLO(folder / "weights" / "last.pt")
    resumed = ycb.attach(model, quick())
    model.train(resume=True)
    assert resumed.history.index.tolist() == [1, 2, 3, 4]
    assert_is_whole(folder, 4)
    noted = run_json(folder)
    assert (noted["status"], noted["error"]) == ("finished", None)


def test_functions_that_remove_themselves_cost_nobody_an_epoch(train_beside, tmp_path):
    called = []

    def once(event):
        def function(trainer):
            called.append(event)
            trainer.callbacks[event].remove(function)

        return function

    run = train_beside([(event, once(event)) for event in TRAIN_EVENTS], epochs=3)
    assert sorted(called) == sorted(TRAIN_EVENTS)
    assert run.history.index.tolist() == [1, 2, 3]
    assert_is_whole(tmp_path / "run", 3)
    assert run_json(tmp_path / "run")["status"] == "finished"


def test_a_function_that_is_added_during_a_run_is_called_as_it_would_be_without_us(train_beside, shapes, tmp_path):
    def adders(calls):
        def note(event):
            return lambda trainer: calls.append((event, trainer.epoch))

        def add(trainer):
            if trainer.epoch == 0:
                for event in ("on_train_batch_end", "on_fit_epoch_end", "on_train_end"):
                    trainer.add_callback(event, note(event))

        return [("on_fit_epoch_end", add)]

    seen = []
    run = train_beside(adders(seen), epochs=3)
    assert_is_whole(run.save_dir, 3)
    model, expected = YOLO(TINY_MODEL, verbose=False), []
    for event, function in adders(expected):
        model.add_callback(event, function)
    model.train(data=str(shapes), epochs=3, project=str(tmp_path), name="without", **TINY)
    assert seen == expected


def test_a_list_of_functions_that_is_replaced_costs_nobody_an_epoch(train_beside, tmp_path):
    calls = []

    def leave(trainer):
        calls.append(trainer.epoch)
        if trainer.epoch == 1:
            trainer.callbacks["on_fit_epoch_end"].remove(leave)

    def replace(trainer):
        if trainer.epoch == 0:
            trainer.callbacks["on_fit_epoch_end"] = list(trainer.callbacks["on_fit_epoch_end"])

    run = train_beside([("on_fit_epoch_end", replace), ("on_fit_epoch_end", leave)], epochs=4)
    assert calls == [0, 1]
    assert run.history.index.tolist() == [1, 2, 3, 4]
    assert_is_whole(tmp_path / "run", 4)


@pytest.mark.parametrize("event", ["on_train_epoch_start", "on_train_epoch_end", "on_fit_epoch_end"])
def test_a_function_that_takes_the_event_for_itself_costs_no_epoch(event, train, tmp_path):
    def usurp(trainer):
        if trainer.epoch == 1:
            trainer.set_callback(event, lambda trainer: None)

    run = train(quick(), before=lambda model: model.add_callback(event, usurp))
    assert run.history.index.tolist() == [1, 2, 3]
    assert run.stop_reason is None
    assert_is_whole(tmp_path / "run", 3)


@pytest.mark.parametrize("event", LIFECYCLE_EVENTS)
def test_an_event_that_was_cleared_after_attaching_costs_no_epoch(event, train, tmp_path):
    run = train(quick(), before=lambda model: model.clear_callback(event), epochs=2)
    assert run.history.index.tolist() == [1, 2]
    assert_is_whole(tmp_path / "run", 2)


def test_resetting_the_callbacks_of_a_model_detaches_it(train, tmp_path):
    run = train(quick(), before=lambda model: model.reset_callbacks(), epochs=2)
    assert ultralytics_rows(tmp_path / "run") == [1, 2]
    assert not (tmp_path / "run" / "callbacks").exists()
    assert run.history.empty
    assert run.stop_reason is None


def test_odd_values_among_the_metrics_are_kept_where_they_are_numbers(train_beside, tmp_path):
    run = train_beside([("on_fit_epoch_end", lambda trainer: trainer.metrics.update(ODD))], epochs=3)
    assert_is_whole(tmp_path / "run", 3)
    extra = NUMBERS if train_beside.first else {}
    for entry in journal(tmp_path / "run").entries:
        found = {key: value for key, value in entry.record.metrics.items() if key in {str(key) for key in ODD}}
        assert found == pytest.approx(extra, nan_ok=True)
    assert set(extra) <= set(run.history.columns)
    assert set(extra) <= set(pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv").columns)


@pytest.mark.parametrize("event", ["on_train_epoch_start", "on_model_save", "on_fit_epoch_end"])
def test_a_function_that_stops_the_trainer_is_told_apart(event, train, tmp_path):
    def stop(trainer):
        trainer.stop = trainer.stop or trainer.epoch == 1

    model = YOLO(TINY_MODEL, verbose=False)
    model.add_callback(event, stop)
    run = train(quick(), model=model, epochs=9)
    assert run.stop_reason is StopReason.EXTERNAL
    assert_is_whole(tmp_path / "run", 2)
    assert run_json(tmp_path / "run")["status"] == "stopped"
