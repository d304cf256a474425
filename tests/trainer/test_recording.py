"""The record of an epoch: what goes into it, and what its clock and its learning rates say."""

import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR
from ultralytics.cfg import get_cfg

from tests.helpers import record
from yolo_callbacks import Finish, SetLearningRate
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.trainer import recording
from yolo_callbacks.trainer.recording import EpochRecorder
from yolo_callbacks.trainer.run_state import RunState

LR = 0.01
FALLING = tuple(LR * (1 - epoch / 10) for epoch in range(10))


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test moves; the trainer's and ours show the same time."""
    now = SimpleNamespace(seconds=1000.0)
    fake = SimpleNamespace(perf_counter=lambda: now.seconds, time=lambda: now.seconds)
    monkeypatch.setattr(recording, "time", fake)
    return now


def trainer(rates=(LR, 3 * LR), falls=lambda epoch: 1 - epoch / 10):
    """Return what a record is built from: real rates and a real scheduler."""
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])
    return SimpleNamespace(
        args=get_cfg(overrides={"epochs": 10}),
        save_dir="runs",
        device=torch.device("cpu"),
        world_size=0,
        epoch=2,
        epochs=10,
        start_epoch=0,
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, falls),
        tloss=torch.tensor([1.5]),
        label_loss_items=lambda losses: {"train/box_loss": losses[0]},
        lr={"lr/pg0": LR},
        metrics={"metrics/mAP50(B)": 0.1, "val/box_loss": 2.0},
        fitness=0.1,
        epoch_time=6.0,
        epoch_time_start=time.time() - 6,
        train_loader=SimpleNamespace(dataset=["a picture"] * 8),
    )


def recorder_of(target):
    return EpochRecorder(RunState(target))


def validate(target, fitness=0.3):
    """Validate as Ultralytics does: with a new dict."""
    target.metrics, target.fitness = {"metrics/mAP50(B)": fitness, "val/box_loss": 1.0}, fitness


def recorded(recorder, measured=(), rates=None, **fields):
    fields = {"complete": True, "last": False, **fields}
    return recorder.record(rates or LearningRateState(), dict(measured), **fields)


def begun(target):
    recorder = recorder_of(target)
    recorder.begin_epoch()
    recorder.end_batches()
    return recorder


def test_a_validated_epoch_has_losses_rates_metrics_and_fitness():
    target = trainer()
    recorder = begun(target)
    validate(target)
    one = recorded(recorder, {"gradients/norm": 4.0})
    assert (one.epoch, one.validated, one.last, one.planned_epochs) == (3, True, False, 10)
    assert one.metrics == {
        "train/box_loss": 1.5,
        "lr/pg0": LR,
        "metrics/mAP50(B)": 0.3,
        "val/box_loss": 1.0,
        "fitness": 0.3,
        "gradients/norm": 4.0,
    }
    assert recorded(recorder, last=True).last


def test_an_epoch_without_validation_has_no_metrics_of_an_earlier_one():
    one = recorded(begun(trainer()))
    assert not one.validated
    assert one.metrics == {"train/box_loss": 1.5, "lr/pg0": LR}


def test_what_is_not_a_number_is_left_out():
    target = trainer()
    recorder = begun(target)
    validate(target)
    target.metrics["a note"] = "good"
    assert "a note" not in recorded(recorder).metrics


def test_what_a_callback_measures_replaces_nothing_of_the_trainers():
    target = trainer()
    recorder = begun(target)
    validate(target)
    one = recorded(recorder, {"fitness": 9.0, "train/box_loss": 9.0, "lr/pg0": 9.0, "mine/a": 1.0})
    assert [one.metrics[name] for name in ("fitness", "train/box_loss", "lr/pg0", "mine/a")] == [0.3, 1.5, LR, 1.0]


def test_whether_an_epoch_was_validated():
    target = trainer()
    recorder = begun(target)
    assert not recorder.validated
    recorder.note_validated()  # with the same dict, as a user's own validation may have it
    assert recorder.validated
    recorder.end_batches()
    assert not recorder.validated
    validate(target)
    assert recorder.validated
    target.fitness = None  # nothing was measured
    assert not recorder.validated


# ------------------------------------------------------------------------------------ the clock


def test_the_clock_goes_on_over_epochs_and_resumes(clock):
    target = trainer()
    recorder = recorder_of(target)
    recorder.continue_clock(500.0)
    recorder.begin_epoch()
    clock.seconds += 4
    recorder.end_batches()
    assert recorded(recorder).elapsed == 504.0
    recorder.close_epoch()
    clock.seconds += 2
    recorder.begin_epoch()
    clock.seconds += 4
    recorder.end_batches()
    assert recorded(recorder).elapsed == 510.0


def test_the_speed_is_that_of_the_batches_alone_and_of_a_repeated_epoch_once(clock):
    recorder = recorder_of(trainer())
    recorder.begin_epoch()
    clock.seconds += 60  # then it runs out of memory, and begins again
    recorder.begin_epoch()
    clock.seconds += 4
    recorder.end_batches()
    clock.seconds += 3  # the validation
    one = recorded(recorder)
    assert one.measures["images_per_second"] == 2.0
    assert one.elapsed == 67.0


def test_an_epoch_that_nobody_saw_begin_has_no_speed(clock):
    recorder = begun(trainer())
    recorder.close_epoch()
    clock.seconds += 5
    recorder.end_batches()
    assert "images_per_second" not in recorded(recorder).measures


@pytest.mark.parametrize(("took", "elapsed"), [(6.0, 6.0), (None, 5.0)])
def test_a_callback_that_joins_at_the_end_of_an_epoch_knows_when_it_began(took, elapsed, clock):
    target = trainer()
    target.epoch_time, target.epoch_time_start = took, clock.seconds - 5
    recorder = recorder_of(target)
    assert recorder._elapsed() == elapsed
    clock.seconds += 10
    target.epoch_time = 3.0
    assert recorder._elapsed() == elapsed + 10


@pytest.mark.parametrize(("complete", "seconds"), [(True, 6.0), (False, 2.0)])
def test_before_its_checkpoint_is_saved_an_epoch_is_timed_by_the_clock(complete, seconds, clock):
    target = trainer()
    target.epoch_time_start = clock.seconds - 2
    assert recorded(begun(target), complete=complete).measures["seconds"] == seconds


# ------------------------------------------------------------------------------------ learning rates


def factors(*decisions):
    state = LearningRateState()
    for number, (factor, min_lr) in enumerate(decisions):
        state = state.after(SetLearningRate("", 1, str(number), factor=factor, min_lr=min_lr))
    return state


@pytest.mark.parametrize(
    ("decisions", "factor"),
    [([], 1.0), ([(0.5, 0.0)], 0.5), ([(0.5, 0.0), (0.1, 0.0)], 0.05), ([(0.5, 0.006)], 0.75), ([(2.0, 0.0)], 2.0)],
)
def test_a_record_has_the_scheduled_rates_and_the_factor(decisions, factor):
    one = recorded(begun(trainer()), rates=factors(*decisions))
    assert (one.base_lr, one.next_base_lr) == pytest.approx((FALLING[2], FALLING[3]))
    assert one.lr_factor == pytest.approx(factor)  # 0.006 is three quarters of what epoch 3 has


def test_the_rate_of_an_epoch_is_that_from_when_its_batches_ended():
    """With `time`, the trainer plans again, and has another schedule, before the record is built."""
    target = trainer()
    recorder = begun(target)
    target.scheduler = LambdaLR(target.optimizer, lambda epoch: 0.1)
    one = recorded(recorder)
    assert (one.base_lr, one.next_base_lr) == pytest.approx((FALLING[2], 0.1 * LR))
    recorder.close_epoch()
    assert recorded(recorder).base_lr == pytest.approx(0.1 * LR)


@pytest.mark.parametrize("epoch", [1, 5, 9])
def test_a_record_from_results_csv_gets_the_rates_of_its_own_epoch(epoch):
    one = recorder_of(trainer()).with_schedule(record(epoch, 0.5, elapsed=7.0), factors((0.5, 0.0)))
    assert (one.base_lr, one.next_base_lr) == pytest.approx((FALLING[epoch - 1], LR * (1 - epoch / 10)))
    assert (one.lr_factor, one.planned_epochs, one.elapsed) == (0.5, 10, 7.0)
    assert one.metrics == record(epoch, 0.5).metrics


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.sampled_from([0.0, 1e-4])), max_size=3), st.integers(1, 10))
def test_the_factor_is_what_makes_the_rate_of_the_epoch(decisions, epoch):
    state = factors(*decisions)
    one = recorder_of(trainer()).with_schedule(record(epoch, 0.5), state)
    assert one.base_lr * one.lr_factor == pytest.approx(LR * state.apply(one.base_lr / LR, LR))


@pytest.mark.parametrize(("rates", "falls"), [((0.0, 0.0), lambda epoch: 1.0), ((LR, LR), lambda epoch: 0.0)])
def test_a_rate_of_zero_has_a_factor_all_the_same(rates, falls):
    one = recorder_of(trainer(rates, falls)).with_schedule(record(3, 0.5), factors((0.5, 0.0)))
    assert (one.base_lr, one.lr_factor) == (0.0, 0.5)


def test_a_record_says_what_was_planned_before_a_finish():
    target = trainer()
    run = RunState(target)
    recorder = EpochRecorder(run)
    assert recorder.with_schedule(record(3, 0.5), LearningRateState()).planned_before_finish == 0
    run._ending.state = FinishState(Finish("", 3, end_epoch=6, planned_epochs=10, base_lr=LR / 2))
    target.epochs = 6
    one = recorder.with_schedule(record(4, 0.5), LearningRateState())
    assert (one.planned_epochs, one.planned_before_finish) == (6, 10)
    assert one.base_lr == pytest.approx(LR / 2)


def test_the_trainers_metrics_are_let_go():
    recorder = begun(trainer())
    recorder.release()
    assert recorder._metrics_before is None
