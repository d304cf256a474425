"""The default callbacks: which they are, and that none of them does harm in an ordinary run."""

import pytest

import yolo_callbacks as ycb
from tests.helpers import decisions_of
from yolo_callbacks.core.lineup import check_outputs, label
from yolo_callbacks.defaults import default_callbacks, protecting_callbacks

FIVE = [ycb.EarlyStopping, ycb.ReduceLROnPlateau, ycb.ModelCheckpoint, ycb.CSVLogger, ycb.PlotLogger]
RATES = {"base_lr": 0.01, "next_base_lr": 0.01}
PLATEAU = [0.1, 0.2, *[0.15] * 97]


def default(cls):
    (found,) = (callback for callback in default_callbacks() if type(callback) is cls)
    return found


def decided(cls, values=PLATEAU, planned=100, **fields):
    plan = ycb.Plan(planned_epochs=planned, final_lr=0.001, **fields)
    return decisions_of(default(cls), values, plan=plan, **RATES)


def test_which_they_are():
    assert [type(callback) for callback in default_callbacks()] == FIVE
    assert [type(callback) for callback in protecting_callbacks()] == [ycb.BackupAndRestore, ycb.PreemptionHandler]


@pytest.mark.parametrize("make", [default_callbacks, protecting_callbacks])
def test_each_call_makes_new_ones(make):
    first, second = make(), make()
    assert [type(callback) for callback in first] == [type(callback) for callback in second]
    assert all(one is not other for one, other in zip(first, second))


def test_all_of_them_go_together():
    together = label([*default_callbacks(), *protecting_callbacks()])
    assert list(together) == [cls.__name__ for cls in (*FIVE, ycb.BackupAndRestore, ycb.PreemptionHandler)]
    check_outputs(together, -1)


def test_the_rate_is_reduced_once_and_only_after_half_of_the_planned_epochs():
    (reduction,) = decided(ycb.ReduceLROnPlateau)
    assert reduction.epoch == 2 + 50
    assert reduction.factor == 0.5
    assert reduction.min_lr == 0.001  # the end of the schedule
    assert decided(ycb.ReduceLROnPlateau, PLATEAU[:51]) == []


@pytest.mark.parametrize("patience", [10, 30])
def test_the_run_ends_by_the_patience_that_was_given_to_train(patience):
    (first, *_) = decided(ycb.EarlyStopping, trainer_patience=patience)
    assert (type(first), first.epoch) == (ycb.Stop, 2 + patience)
    assert "fitness" in first.message


def test_patience_0_never_ends_a_run():
    assert decided(ycb.EarlyStopping, trainer_patience=0) == []


def test_a_run_that_improves_in_every_epoch_is_neither_slowed_nor_ended():
    rising = [epoch / 200 for epoch in range(1, 100)]
    for cls in (ycb.EarlyStopping, ycb.ReduceLROnPlateau):
        assert decided(cls, rising, trainer_patience=20) == []


def test_one_file_holds_the_best_weights_with_their_optimizer():
    saves = decided(ycb.ModelCheckpoint)
    assert [(one.epoch, one.file, one.weights_only, one.drop) for one in saves] == [
        (epoch, "weights/best-fitness.pt", False, ()) for epoch in (1, 2)
    ]
