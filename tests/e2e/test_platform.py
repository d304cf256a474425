"""The real Platform client of Ultralytics against a real server on loopback: what arrives, and whatever goes wrong."""

import json

import pandas as pd
import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, journal, run_json
from tests.platform_server import KEY, SIGNATURE, Platform, train_in_process
from yolo_callbacks import StopReason
from yolo_callbacks.core.events import TRAIN_EVENTS
from yolo_callbacks.trainer.versions import ultralytics_is_at_least

# In a process of its own: the integration is off wherever pytest is loaded.
BEGIN = """
import json, os, sys, time, urllib.request
from tests.helpers import TINY_MODEL
from ultralytics import YOLO, settings
import yolo_callbacks as ycb
from yolo_callbacks.trainer.patches import platform as platform_guard

data, project, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
settings.update({"sync": False, "tensorboard": False, "mlflow": False, "wandb": False})
report = {}

def server(path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(os.environ["ULTRALYTICS_PLATFORM_URL"] + path).read()

def train(name, epochs=1, *, attached=True, numbers=None, functions=(), model=TINY_MODEL, **more):
    model = YOLO(model, verbose=False)
    callbacks = [ycb.EarlyStopping(patience=50), ycb.PlatformLogger(numbers), ycb.CSVLogger()]
    run = ycb.attach(model, callbacks) if attached else None
    for event, function in functions:
        model.add_callback(event, function)
    error, start, output = None, time.monotonic(), sys.stdout
    try:
        model.train(data=data, project=project, name=name, epochs=epochs, **arguments, **more)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    report[name] = {
        "error": error, "seconds": time.monotonic() - start, "captured": sys.stdout is not output,
        "reason": run and run.stop_reason, "epochs": len(run.history) if run else None,
    }
"""
END = """
open(os.path.join(project, "report.json"), "w").write(json.dumps(report))
"""

ANSWERS = (
    BEGIN
    + """
def f2(numbers):
    return 5 * numbers["precision"] * numbers["recall"] / (4 * numbers["precision"] + numbers["recall"] + 1e-9)

def fail(numbers):
    raise LookupError("there is no such thing")

def halt(trainer):
    if trainer.epoch == 1:
        raise RuntimeError("the second epoch")

def wait_for_cancel(trainer):
    trainer.add_callback("on_fit_epoch_end", until_cancelled)

def until_cancelled(trainer):
    while not trainer.platform["cancelled"]:
        time.sleep(0.01)

def upload_now(trainer):
    trainer.platform["last_upload"] = 0

train("functions", 2, numbers={"F2": f2, "nothing": fail, "text": lambda numbers: "much", "none": lambda numbers: None,
      "speed": "images_per_second", "all": len, "same": lambda numbers: numbers["EarlyStopping/wait"]})
train("resumed", 3, functions=[("on_train_epoch_start", halt)])
report["halted"] = report["resumed"]
train("resumed", 3, model=f"{project}/resumed/weights/last.pt", resume=True)
train("bare", attached=False)
train("fieldless")
train("strange")
train("unauthorized")
train("revoked", 2)
train("broken")
train("garbled")
train("listed")
train("earlier", 2, functions=[("on_train_start", upload_now)])
train("late", 9, functions=[("on_train_start", wait_for_cancel)])
train("unsaved", 200, save=False, time=1)
os.environ["ULTRALYTICS_API_KEY"] += "\\n"
train("newline")
"""
    + END
)


def none_at_first(platform, request):
    """Refuse the first upload of a checkpoint only."""
    return {} if len(platform.asked("earlier", "upload")) == 1 else None


def cancelled(platform, request):
    return {"cancelled": True}


def everything(name, answer):
    events = ("epoch_end", "console_output", "upload", "training_complete")
    return {(name, event): answer for event in events}


class Runs:
    """What a program has left."""

    def __init__(self, folder, platform, done):
        self.folder, self.platform, self.output = folder, platform, done.stdout + done.stderr
        assert done.returncode == 0, self.output
        self.report = json.loads((folder / "runs" / "report.json").read_text())

    def __getitem__(self, name):
        return self.folder / "runs" / name

    def assert_is_whole(self, name, number):
        """A run has ended as if there were no Platform."""
        report, folder = self.report[name], self[name]
        assert (report["error"], report["epochs"], report["captured"]) == (None, number, False)
        expected = list(range(1, number + 1))
        assert [entry.record.epoch for entry in journal(folder).entries] == expected
        assert pd.read_csv(folder / "results.csv")["epoch"].tolist() == expected
        assert pd.read_csv(folder / "callbacks" / "epochs.csv")["epoch"].tolist() == expected
        assert run_json(folder)["status"] == ("stopped" if report["reason"] else "finished")
        assert YOLO(folder / "weights" / "best.pt").ckpt["epoch"] == -1

    def assert_keeps_secrets(self):
        assert self.platform.keys == {f"Bearer {KEY}"}  # it was there to be told
        for secret in (KEY, SIGNATURE):
            assert secret not in self.output
            for path in self.folder.rglob("*"):
                assert not path.is_file() or secret.encode() not in path.read_bytes(), path

    def count(self, text):
        return self.output.count(text)


def run_program(program, answers, shapes, folder):
    platform = Platform(answers)
    words = [str(shapes), str(folder / "runs"), json.dumps(TINY)]
    try:
        return Runs(folder, platform, train_in_process(program, words, folder, platform))
    finally:
        platform.close()


@pytest.fixture(scope="module")
def runs(shapes, tmp_path_factory):
    answers = {
        ("bare", "upload"): {},
        ("fieldless", "upload"): {},
        ("strange", "training_started"): {"modelId": 7},
        ("unauthorized", "training_started"): 401,
        ("revoked", "epoch_end"): 401,
        ("listed", "training_started"): [],
        ("earlier", "upload"): none_at_first,
        ("late", "epoch_end"): cancelled,
        ("unsaved", "epoch_end"): cancelled,
        **everything("broken", 500),
        **everything("garbled", b"{not JSON"),
    }
    return run_program(ANSWERS, answers, shapes, tmp_path_factory.mktemp("platform"))


def test_what_functions_return_arrives_in_each_epoch(runs):
    runs.assert_is_whole("functions", 2)
    sent = sorted(runs.platform.of("functions", "epoch_end"), key=lambda item: item["epoch"])
    assert [item["epoch"] for item in sent] == [0, 1, 2]  # the last is the final evaluation's
    for item, entry in zip(sent, journal(runs["functions"]).entries):
        numbers = {name: value for name, value in item["metrics"].items() if name.startswith("custom/")}
        assert set(numbers) == {"custom/F2", "custom/speed", "custom/all", "custom/same"}
        assert numbers["custom/speed"] == entry.numbers["images_per_second"]
        assert numbers["custom/same"] == entry.numbers["EarlyStopping/wait"]
        assert numbers["custom/all"] > len(entry.numbers)  # the short names count too
        precision, recall = (entry.numbers[f"metrics/{name}(B)"] for name in ("precision", "recall"))
        assert numbers["custom/F2"] == pytest.approx(5 * precision * recall / (4 * precision + recall + 1e-9))
    assert not [name for name in sent[2]["metrics"] if name.startswith("custom/")]


def test_a_function_without_a_number_is_told_once(runs):
    assert runs.count("'custom/nothing' failed; training continues: LookupError: there is no such") == 1
    assert runs.count("'custom/text' failed; training continues") == 1
    assert runs.count("'custom/none' failed; training continues") == 1


def test_a_resumed_run_goes_on_with_the_same_model(runs):
    assert runs.report["halted"]["error"] == "RuntimeError: the second epoch"
    assert not runs.report["halted"]["captured"]
    runs.assert_is_whole("resumed", 3)
    started = runs.platform.asked("resumed", "training_started")
    assert len(started) == 2
    if ultralytics_is_at_least(8, 4, 190):  # older ones register a new one
        assert started[1]["modelId"] == "resumed"
    sent = sorted(item["epoch"] for item in runs.platform.of("resumed", "epoch_end"))
    assert sent == [0, 1, 2, 3]
    assert all("custom/lr_factor" in item["metrics"] for item in runs.platform.of("resumed", "epoch_end")[:3])
    assert run_json(runs["resumed"])["notes"]["Platform"]["model_id"] == "resumed"


def test_without_us_an_answer_without_a_url_ends_the_training_with_an_exception(runs):
    assert runs.report["bare"]["error"] == "KeyError: 'uploadUrl'"
    assert not runs.platform.of("bare", "training_complete")


def test_an_answer_without_a_url_is_told_and_the_results_arrive(runs):
    runs.assert_is_whole("fieldless", 1)
    warning = "Ultralytics Platform: uploading the model failed; the results are sent without it: KeyError: 'uploadUrl'"
    assert runs.count(warning) == 1
    (complete,) = runs.platform.of("fieldless", "training_complete")
    assert "modelPath" not in complete["results"]
    assert complete["results"]["metrics"]


def test_an_id_that_is_no_text_leaves_the_run_untracked(runs):
    """Before 8.4.190 or so it is a list for an object that raises, and the id does not."""
    runs.assert_is_whole("strange", 1)
    assert runs.count("Ultralytics Platform: registering the run failed; the run is not tracked: ") == 1
    if ultralytics_is_at_least(8, 4, 190):
        assert not runs.platform.of("strange", "epoch_end")


@pytest.mark.parametrize(("name", "number"), [("unauthorized", 1), ("listed", 1), ("newline", 1), ("revoked", 2)])
def test_a_run_that_is_refused_is_whole(name, number, runs):
    runs.assert_is_whole(name, number)
    assert not runs.platform.of(name, "training_complete")


@pytest.mark.parametrize("name", ["broken", "garbled"])
def test_a_server_that_fails_leaves_the_run_whole(name, runs):
    runs.assert_is_whole(name, 1)
    assert runs.platform.of(name, "epoch_end")


def test_an_earlier_upload_that_failed_does_not_keep_the_model_from_being_uploaded(runs):
    runs.assert_is_whole("earlier", 2)
    assert runs.count("Ultralytics Platform: uploading a checkpoint failed; training continues: KeyError") == 1
    assert runs.platform.uploads["earlier"] == (runs["earlier"] / "weights" / "best.pt").read_bytes()
    (complete,) = runs.platform.of("earlier", "training_complete")
    assert complete["results"]["modelPath"] == "store/earlier"


def test_a_cancel_after_the_decision_is_a_reason_too(runs):
    runs.assert_is_whole("late", 1)
    assert runs.report["late"]["reason"] == StopReason.CANCELLED.value
    stop = {"reason": "cancelled", "message": "cancelled from the Ultralytics Platform", "epoch": 1}
    assert run_json(runs["late"])["stop"] == stop


def test_a_cancelled_run_that_saved_nothing_is_left_with_a_model(runs):
    """With `time` the trainer sets its flag anew in every step: plain Ultralytics may lose the cancel there."""
    report = runs.report["unsaved"]
    assert (report["error"], report["reason"]) == (None, StopReason.CANCELLED.value)
    assert report["epochs"] < 200
    assert journal(runs["unsaved"]).entries[-1].stop.reason is StopReason.CANCELLED
    assert (runs["unsaved"] / "weights" / "last.pt").exists()


def test_no_secret_is_anywhere_whatever_was_answered(runs):
    runs.assert_keeps_secrets()


# ----------------------------------------------------------------------------------------------- slow, or away

WAITS = (
    BEGIN
    + """
platform_guard.START_SECONDS = platform_guard.END_SECONDS = 1.0

from ultralytics.utils.callbacks import platform as theirs

for name, epochs in (("unanswered", 1), ("slow", 2)):
    train(name, epochs)
    server(f"/flag/{name}")
there = dict(vars(theirs))
for name in set(there) & {"PLATFORM_URL", "PLATFORM_API_URL"}:
    setattr(theirs, name, "http://127.0.0.1:9")  # nobody listens there
platform_guard.START_SECONDS = 60.0
train("away")
vars(theirs).update(there)
train("uploading")
server("/flag/uploading")  # and it goes to its end
"""
    + END
)


def waits_for_the_program(name):
    """Answer only when the training has returned."""

    def answer(platform, request):
        platform.in_time.append((name, platform.flag(name).wait(60)))

    return answer


@pytest.fixture(scope="module")
def waiting(shapes, tmp_path_factory):
    events = {"unanswered": "training_started", "slow": "epoch_end", "uploading": "put"}
    answers = {(name, event): waits_for_the_program(name) for name, event in events.items()}
    return run_program(WAITS, answers, shapes, tmp_path_factory.mktemp("waiting"))


@pytest.mark.parametrize(("name", "number"), [("unanswered", 1), ("slow", 2), ("uploading", 1), ("away", 1)])
def test_a_server_that_does_not_answer_holds_nothing_up(name, number, waiting):
    waiting.assert_is_whole(name, number)
    assert all(in_time for whose, in_time in waiting.platform.in_time if whose == name)


def test_a_run_that_is_not_registered_in_time_is_not_tracked(waiting):
    assert waiting.count("Ultralytics Platform: no answer within 1 s; the run is not tracked") == 1
    assert not waiting.platform.of("unanswered", "epoch_end")
    assert not waiting.platform.of("unanswered", "console_output")


def test_a_slow_upload_is_finished_before_the_process_ends(waiting):
    assert waiting.count("the upload takes longer than 1 s and continues in the background") == 1
    assert waiting.platform.uploads["uploading"] == (waiting["uploading"] / "weights" / "best.pt").read_bytes()
    assert waiting.platform.of("uploading", "training_complete")


def test_no_secret_is_anywhere_whatever_was_waited_for(waiting):
    waiting.assert_keeps_secrets()


# ----------------------------------------------------------------------------------------------- the trainer's metrics

OTHERS = tuple(event for event in TRAIN_EVENTS[2:] if event != "on_fit_epoch_end")


class Trouble(Exception):
    pass


def replace_metrics(trainer):
    trainer.metrics = dict(trainer.metrics)


def replace_list(trainer):
    trainer.callbacks["on_fit_epoch_end"] = list(trainer.callbacks["on_fit_epoch_end"])


def save_again(trainer):
    trainer.save_model()


def change_in_place(trainer):
    trainer.metrics["metrics/recall(B)"] = 0.25
    if "custom/lr_factor" in trainer.metrics:
        trainer.metrics["custom/lr_factor"] = -1.0


def write_nan(trainer):
    if trainer.epoch == 1 and not hasattr(trainer, "poisoned"):
        trainer.poisoned = next(trainer.model.parameters()).data.fill_(float("nan"))


def run_out_of_memory(trainer):
    def fail(*_):
        hook.remove()
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    hook = trainer.model.register_forward_pre_hook(fail)


WHATEVER = {
    "no checkpoints": ([], {"val": False, "save": False}),
    "early stop": ([], {"epochs": 9}),
    "dict replaced": ([("on_fit_epoch_end", replace_metrics)], {"val": False}),
    "saved again": ([("on_fit_epoch_end", save_again)], {}),
    "dict and list changed": (
        [("on_fit_epoch_end", replace_list), ("on_fit_epoch_end", change_in_place)],
        {"val": False},
    ),
    "NaN": ([("on_train_batch_start", write_nan)], {"batch": 2, "nbs": 2}),
    "out of memory": ([("on_train_start", run_out_of_memory)], {}),
    "out of time": ([], {"time": 0.0005, "val": False}),
}


def keys_of(folder):
    """Return what a run's own files say that its metrics are."""
    kept = torch.load(folder / "weights" / "last.pt", weights_only=False)
    return list(pd.read_csv(folder / "results.csv")), list(kept["train_metrics"]), list(kept["train_results"])


class Witness:
    """Functions of a user that look at the trainer's metrics, before and after ours, and in all other events."""

    def __init__(self):
        self.before, self.after, self.elsewhere, self.trainer = [], [], [], None

    def register(self, model, functions, trainer_is_ready="on_pretrain_routine_end"):
        def attend(trainer):
            for event, function in functions:
                trainer.add_callback(event, function)
            trainer.add_callback("on_fit_epoch_end", lambda trainer: self.after.append(ours_in(trainer.metrics)))
            for event in OTHERS:
                trainer.callbacks[event].insert(0, self.look)
                trainer.add_callback(event, self.look)

        model.callbacks["on_fit_epoch_end"].insert(0, lambda trainer: self.before.append(ours_in(trainer.metrics)))
        model.add_callback(trainer_is_ready, attend)

    def look(self, trainer):
        self.elsewhere += ours_in(trainer.metrics)


def ours_in(metrics):
    return [name for name in metrics if name.startswith("custom/")]


@pytest.mark.parametrize("what", WHATEVER)
def test_the_trainers_metrics_are_as_before_whatever_comes_next(what, train, tmp_path, shapes):
    functions, arguments = WHATEVER[what]
    witness, model = Witness(), YOLO(TINY_MODEL, verbose=False)
    before = lambda model: witness.register(model, functions)  # noqa: E731
    callbacks = [ycb.PlatformLogger(["lr_factor", "seconds"]), ycb.EarlyStopping(patience=1)]
    run = train(callbacks, model=model, before=before, **{"epochs": 2, **arguments})
    epochs = len(run.history)
    assert epochs >= 1
    seen = [names for names in witness.after if names]
    assert seen == [["custom/lr_factor", "custom/seconds"]] * epochs  # in each epoch once, not in the final evaluation
    assert not any(witness.before)
    assert not witness.elsewhere
    columns, in_checkpoint, results = keys_of(tmp_path / "run")
    assert not ours_in([*columns, *in_checkpoint, *results])
    assert len(pd.read_csv(tmp_path / "run" / "results.csv")) == epochs
    assert "custom/lr_factor" not in model.trainer.metrics


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
def test_an_exception_of_another_function_leaves_the_metrics_as_before(error, train, tmp_path):
    def fail(trainer):
        held.append(trainer)
        if trainer.epoch == 1:
            raise error

    held, witness, model = [], Witness(), YOLO(TINY_MODEL, verbose=False)
    with pytest.raises(error):
        train(
            [ycb.PlatformLogger(["lr_factor"])],
            model=model,
            before=lambda model: witness.register(model, [("on_fit_epoch_end", fail)]),
            val=False,
        )
    assert not ours_in(held[0].metrics)
    assert not witness.elsewhere
    columns, in_checkpoint, results = keys_of(tmp_path / "run")
    assert not ours_in([*columns, *in_checkpoint, *results])


def test_a_function_that_is_registered_before_ours_comes_too_early(train, tmp_path):
    seen, model = [], YOLO(TINY_MODEL, verbose=False)
    model.add_callback("on_fit_epoch_end", lambda trainer: seen.append(ours_in(trainer.metrics)))
    train([ycb.PlatformLogger(["lr_factor"])], model=model, epochs=1)
    assert seen == [[], []]


def test_integrations_see_the_numbers_also_when_the_event_was_cleared(train):
    def integration(trainer):
        seen.append(ours_in(trainer.metrics))

    def clear(model):
        model.clear_callback("on_fit_epoch_end")
        model.add_callback("on_fit_epoch_end", integration)

    integration.__module__ = "ultralytics.utils.callbacks.wb"
    seen = []
    train([ycb.PlatformLogger(["lr_factor"])], before=clear, epochs=2)
    assert seen == [["custom/lr_factor"], ["custom/lr_factor"], []]


def test_a_name_that_is_unknown_or_taken_ends_the_run_before_it_begins(train, tmp_path):
    with pytest.raises(ycb.UnknownMetricError, match=r"PlatformLogger: 'lr_facter' .* \(did you mean 'lr_factor'\?\)"):
        train([ycb.PlatformLogger(["lr_facter"])])
    with pytest.raises(ycb.UnknownMetricError, match=r"PlatformLogger: Ultralytics itself sends 'metrics/recallB'"):
        train([ycb.PlatformLogger({"recall(B)": "recall"}, prefix="metrics/")])
    assert not (tmp_path / "run" / "results.csv").exists()


def test_what_is_sent_by_default(train, tmp_path):
    witness, model = Witness(), YOLO(TINY_MODEL, verbose=False)
    callbacks = [ycb.PlatformLogger(), ycb.EarlyStopping(patience=9), ycb.GradientMonitor()]
    train(callbacks, model=model, epochs=1, before=lambda model: witness.register(model, []))
    names = set(witness.after[0])
    assert {"custom/lr_factor", "custom/seconds", "custom/images_per_second", "custom/EarlyStopping_wait"} <= names
    assert "custom/gradients_norm" in names
    assert "custom/rss_gb" not in names
