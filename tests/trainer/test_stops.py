"""Why a training ends that no callback has ended: a table of facts."""

from dataclasses import replace

import pytest

from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.trainer.stops import PLATFORM, TRAINER, StopFacts, why_ended, why_finished, why_stopping

RUNNING = StopFacts(epoch=7, planned_epochs=20, best_epoch=2, patience=5, has_fitness=True)


@pytest.mark.parametrize(
    ("facts", "reason", "source"),
    [
        ({"stopping": True}, StopReason.TRAINER_PATIENCE, TRAINER),
        ({"stopping": True, "patience": 0}, StopReason.EXTERNAL, TRAINER),
        ({"stopping": True, "epoch": 6}, StopReason.EXTERNAL, TRAINER),
        ({"stopping": True, "has_fitness": False}, StopReason.EXTERNAL, TRAINER),
        ({"stopping": True, "cancelled": True}, StopReason.CANCELLED, PLATFORM),
        ({"cancelled": True}, StopReason.CANCELLED, PLATFORM),
        ({"stopping": True, "out_of_time": True, "time_limit": 2.0}, StopReason.TIME_LIMIT, TRAINER),
        ({"stopping": True, "out_of_time": True, "epoch": 20}, StopReason.TIME_LIMIT, TRAINER),
    ],
)
def test_why_a_training_ends_early(facts, reason, source):
    stop = why_stopping(replace(RUNNING, **facts))
    assert (stop.reason, stop.source) == (reason, source)


@pytest.mark.parametrize("facts", [{}, {"out_of_time": True}, {"stopping": True, "epoch": 20}])
def test_a_training_that_goes_on_or_reaches_its_planned_end_has_no_reason(facts):
    assert why_stopping(replace(RUNNING, **facts)) is None


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"epoch": 20}, "completed all 20 epochs"),
        ({"epoch": 1, "planned_epochs": 1}, "completed 1 epoch"),
        ({}, "Ultralytics' own patience=5 ran out (best epoch 2)"),
        ({"best_epoch": 0}, None),
        ({"patience": 0}, None),
        ({"epoch": 6}, None),
    ],
)
def test_whether_a_resumed_run_is_finished(facts, message):
    stop = why_finished(replace(RUNNING, **facts))
    assert (stop.message if stop is not None else None) == message


def test_why_a_run_ended_that_nothing_else_explains():
    assert why_ended(RUNNING).reason is StopReason.EXTERNAL
    assert why_ended(replace(RUNNING, cancelled=True)).reason is StopReason.CANCELLED
