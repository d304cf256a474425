"""The guard around the functions of Ultralytics' integrations, the Platform's above all, without a training."""

import logging
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from ultralytics.utils.callbacks import platform as theirs
from ultralytics.utils.logger import ConsoleLogger

from tests.platform_server import KEY, SIGNATURE
from yolo_callbacks.trainer.patches import platform as platform_guard
from yolo_callbacks.trainer.patches.callback_lists import SnapshotList
from yolo_callbacks.trainer.patches.guarded_integrations import (
    before_integrations,
    guard_integrations,
    integrations,
)
from yolo_callbacks.trainer.patches.platform import is_cancelled, platform_model, release_console


def of_the_platform(function):
    """Make a function one of the Platform's."""
    function.__module__ = theirs.__name__
    return function


def trainer_with(event="on_fit_epoch_end", *functions, **attributes):
    return SimpleNamespace(callbacks={event: list(functions)}, world_size=0, save_dir=Path("run"), **attributes)


def send(trainer, event="on_fit_epoch_end"):
    for function in trainer.callbacks[event]:
        function(trainer)


@of_the_platform
def fail(trainer):
    raise KeyError("uploadUrl")


def test_it_is_told_once_and_others_are_not_guarded(caplog):
    def own(trainer):
        raise ValueError("mine")

    trainer = trainer_with("on_fit_epoch_end", fail, platform={})
    for _ in range(3):
        guard_integrations(trainer)
        send(trainer)
    told = [record.getMessage() for record in caplog.records if "uploadUrl" in record.getMessage()]
    assert len(told) == 1
    assert told[0].endswith("Ultralytics Platform: on_fit_epoch_end failed; training continues: KeyError: 'uploadUrl'")
    trainer.callbacks["on_fit_epoch_end"].append(own)
    guard_integrations(trainer)
    with pytest.raises(ValueError, match="mine"):
        send(trainer)


@pytest.mark.parametrize(("name", "who"), [("mlflow", "MLflow"), ("wb", "Weights & Biases"), ("hub", "hub")])
def test_no_integration_ends_a_training_and_each_is_told_once(name, who, caplog):
    called = []

    def on_fit_epoch_end(trainer):
        called.append(trainer)
        raise TypeError(f"no metrics in epoch {len(called)}")

    on_fit_epoch_end.__module__ = f"ultralytics.utils.callbacks.{name}"
    trainer = trainer_with("on_fit_epoch_end", on_fit_epoch_end)
    trainer.callbacks["on_val_end"] = [on_fit_epoch_end]
    for _ in range(3):
        guard_integrations(trainer)
        send(trainer)
    send(trainer, "on_val_end")
    assert called == [trainer] * 4
    told = [record.getMessage().partition(" ⚠️ ")[2] for record in caplog.records]
    assert told == [
        f"Ultralytics' {who} integration: {event} failed; training continues: TypeError: no metrics in epoch {number}"
        for event, number in [("on_fit_epoch_end", 1), ("on_val_end", 4)]
    ]


def test_ray_tune_may_end_its_trial():
    def on_fit_epoch_end(trainer):
        raise RuntimeError("enough")

    on_fit_epoch_end.__module__ = "ultralytics.utils.callbacks.raytune"
    trainer = trainer_with("on_fit_epoch_end", on_fit_epoch_end)
    guard_integrations(trainer)
    with pytest.raises(RuntimeError, match="enough"):
        send(trainer)


def test_a_guarded_function_is_found_and_removed_as_before():
    trainer = trainer_with("teardown", fail)
    functions = trainer.callbacks["teardown"]
    guard_integrations(trainer)
    assert trainer.callbacks["teardown"] is functions  # it may be in use
    assert functions[0] is not fail
    assert fail in functions
    assert functions[0] == functions[0]
    functions.remove(fail)
    assert not functions


def test_what_is_no_exception_comes_out():
    @of_the_platform
    def interrupt(trainer):
        raise KeyboardInterrupt

    trainer = trainer_with("on_fit_epoch_end", interrupt)
    guard_integrations(trainer)
    with pytest.raises(KeyboardInterrupt):
        send(trainer)


@pytest.mark.parametrize(("world_size", "stopped"), [(0, True), (1, True), (2, False)])
def test_a_cancel_never_stops_one_rank_of_several(world_size, stopped):
    """Ultralytics leaves the epoch on rank 0 alone, and the others wait for it until they time out."""
    state = {"cancelled": False}

    @of_the_platform
    def on_fit_epoch_end(trainer):
        theirs._handle_control_response(trainer, trainer.platform, {"cancelled": True})

    trainer = trainer_with("on_fit_epoch_end", on_fit_epoch_end, stop=False, platform=state)
    trainer.world_size = world_size
    guard_integrations(trainer)
    send(trainer)
    assert trainer.stop is stopped
    assert is_cancelled(trainer)


class Console:
    def __init__(self):
        self.calls = []

    def start_capture(self):
        self.calls.append("start")

    def stop_capture(self):
        self.calls.append("stop")


def test_a_registration_that_comes_too_late_changes_nothing(monkeypatch):
    monkeypatch.setattr(platform_guard, "START_SECONDS", 0.01)
    go_on, done, console = threading.Event(), threading.Event(), Console()

    @of_the_platform
    def on_pretrain_routine_start(trainer):
        trainer.platform = state = {"console_logger": console, "cancelled": False}
        go_on.wait(10)
        state["console_logger"].start_capture()
        theirs._handle_control_response(trainer, state, {"cancelled": True})
        done.set()

    trainer = trainer_with("on_pretrain_routine_start", on_pretrain_routine_start, stop=False)
    guard_integrations(trainer)
    send(trainer, "on_pretrain_routine_start")
    assert trainer.platform is None
    go_on.set()
    assert done.wait(10)
    assert console.calls == ["stop"]
    assert (trainer.platform, trainer.stop) == (None, False)


def test_a_registration_that_fails_ends_the_tracking():
    @of_the_platform
    def on_pretrain_routine_start(trainer):
        trainer.platform = {"console_logger": Console(), "cancelled": False}
        raise TypeError("data must be str, not int")

    trainer = trainer_with("on_pretrain_routine_start", on_pretrain_routine_start)
    guard_integrations(trainer)
    send(trainer, "on_pretrain_routine_start")
    assert trainer.platform is None


def test_the_end_waits_for_an_earlier_upload_and_survives_it():
    upload, seen = Future(), []
    upload.set_exception(KeyError("uploadUrl"))

    @of_the_platform
    def on_train_end(trainer):
        if trainer.platform["checkpoint_upload"]:
            trainer.platform["checkpoint_upload"].result()
        seen.append(trainer.best)

    trainer = trainer_with("on_train_end", on_train_end, platform={"checkpoint_upload": upload}, best=Path("best.pt"))
    guard_integrations(trainer)
    send(trainer, "on_train_end")
    assert seen == [Path("best.pt")]


def test_results_are_sent_without_a_model_that_cannot_be_uploaded(tmp_path):
    sent, best = [], tmp_path / "best.pt"
    best.touch()

    @of_the_platform
    def on_train_end(trainer):
        if Path(trainer.best).exists() or Path(trainer.last).exists():
            raise KeyError("uploadUrl")
        sent.append(trainer.fitness)

    trainer = trainer_with("on_train_end", on_train_end, platform={}, best=best, last=best, fitness=0.5)
    guard_integrations(trainer)
    send(trainer, "on_train_end")
    assert sent == [0.5]
    assert trainer.best is trainer.last is best


def log_as(module, message):
    logging.getLogger("ultralytics").handle(
        logging.LogRecord("ultralytics", logging.WARNING, f"{module}.py", 1, message, (), None)
    )


@pytest.mark.parametrize("key", [KEY, KEY + "\n", f" {KEY} "])
def test_the_key_and_signatures_are_not_logged(key, caplog, monkeypatch):
    monkeypatch.setenv("ULTRALYTICS_API_KEY", key)
    guard_integrations(trainer_with("teardown", fail))
    log_as("anywhere", f"Illegal header value b'Bearer {key!r}'")
    log_as("uploads", f"Pool(host='x'): Max retries exceeded with url: /m/best.pt?sig={SIGNATURE} (it is")
    log_as("platform", f"cannot reach https://store.org/best.pt?sig={SIGNATURE}")
    log_as("anywhere", "it is told as it is: https://docs.org/?page=1")
    assert KEY not in caplog.text
    assert SIGNATURE not in caplog.text
    assert "Max retries exceeded with url: /m/best.pt?*** (it is" in caplog.text
    assert "https://docs.org/?page=1" in caplog.text


def test_no_key_hides_nothing(caplog, monkeypatch):
    monkeypatch.delenv("ULTRALYTICS_API_KEY", raising=False)
    guard_integrations(trainer_with("teardown", fail))
    log_as("anywhere", "plain")
    logging.getLogger("ultralytics").warning("%s and %s", "one", "two")
    assert "plain" in caplog.text
    assert "one and two" in caplog.text


def integration(name):
    def function(trainer):
        pass

    function.__module__ = f"ultralytics.utils.callbacks.{name}"
    return function


def test_integrations_are_known():
    base, mine, wb = integration("base"), lambda trainer: None, integration("wb")
    trainer = trainer_with("on_fit_epoch_end", base, mine, fail, wb, platform=None)
    guard_integrations(trainer)
    assert before_integrations(trainer.callbacks["on_fit_epoch_end"]) == 2
    assert integrations(trainer) == ("wb",)  # nothing is sent to the Platform
    trainer.platform = {"model_id": "m1", "model_url": None}
    assert integrations(trainer) == ("platform", "wb")
    assert platform_model(trainer) == {"model_id": "m1"}
    assert before_integrations([base, mine]) == 2


def test_a_trainer_with_something_else_by_that_name_is_left_alone():
    trainer = trainer_with("teardown", fail, platform="linux")
    assert not is_cancelled(trainer)
    assert platform_model(trainer) == {}


def test_the_console_is_given_back(tmp_path):
    own = sys.stdout, sys.stderr
    console = ConsoleLogger(tmp_path / "console.log", flush_interval=0.01)
    console.start_capture()
    try:
        assert sys.stdout is not own[0]
        release_console(trainer_with(platform={"console_logger": console}))
        assert (sys.stdout, sys.stderr) == own
    finally:
        console.stop_capture()


@pytest.mark.parametrize("platform", [{"console_logger": None}, {}, None, "linux"])
def test_a_console_that_was_not_taken_stays(platform):
    own = sys.stdout, sys.stderr
    release_console(trainer_with(platform=platform))
    assert (sys.stdout, sys.stderr) == own


def test_an_iteration_within_another_ends_nothing():
    """A copy that is made of the list while its functions are called must not take back what they have yet to see."""
    ended = []
    functions = SnapshotList([1, 2, 3])
    functions.at_end = lambda: ended.append(len(seen))
    seen = []
    for item in functions:
        seen.append(list(functions) and item)
    assert ended == [3]
    with pytest.raises(ZeroDivisionError):
        for item in functions:
            seen.append(item // 0)
    assert ended == [3, 3]
