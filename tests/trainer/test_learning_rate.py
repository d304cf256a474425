"""Factors over a trainer's schedule, whatever scheduler it has."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch.optim import lr_scheduler

from yolo_callbacks import SetLearningRate
from yolo_callbacks.core.learning_rate import Anneal, Detour, LearningRateState
from yolo_callbacks.trainer.learning_rate import apply_factors, base_schedule, lowest_group, own_schedule, remove_factor


def state_of(*decisions):
    state = LearningRateState()
    for source, factor, min_lr in decisions:
        state = state.after(SetLearningRate("", 1, source, factor=factor, min_lr=min_lr))
    return state


def trainer(*lambdas, rates=(0.01, 0.03), lf=None):
    """Return what of a trainer has to do with rates: real parameter groups, and a real scheduler."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    lf = lambdas[0] if len(lambdas) == 1 else lf
    scheduler = lr_scheduler.LambdaLR(optimizer, lf if len(lambdas) == 1 else list(lambdas)) if lambdas else None
    return SimpleNamespace(lf=lf, optimizer=optimizer, scheduler=scheduler, epoch=0)


def epochs(target, number, state=None, anneal=None, first=0, read=lambda target: None):
    """Go through epochs as Ultralytics does, and return the rates of each group in every one of them."""
    trace = []
    for target.epoch in range(first, first + number):
        now = state(target.epoch) if callable(state) else state or LearningRateState()
        apply_factors(target, now, Detour(anneal))
        target.scheduler.last_epoch = target.epoch - 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimizer has stepped before, as Ultralytics does
            target.scheduler.step()
        trace.append([group["lr"] for group in target.optimizer.param_groups])
        read(target)
        remove_factor(target)
    return trace


def halved_from(epoch, factor=0.5, min_lr=0.0):
    return lambda current: state_of(("a", factor, min_lr)) if current >= epoch else LearningRateState()


def test_an_untouched_trainer_is_left_alone():
    lf = lambda epoch: 1.0  # noqa: E731
    target = trainer(lf)
    apply_factors(target, LearningRateState())
    assert target.lf is lf
    assert target.scheduler.lr_lambdas == [lf, lf]


def test_applying_twice_does_not_multiply_twice():
    lf = lambda epoch: 1.0 - epoch / 10  # noqa: E731
    target, state = trainer(lf), state_of(("a", 0.5, 0.0))
    for _ in range(3):
        apply_factors(target, state)
    assert [target.lf(e) for e in range(3)] == pytest.approx([0.5, 0.45, 0.4])
    assert target.scheduler.lr_lambdas == [target.lf, target.lf]
    assert own_schedule(target.lf) is lf


def test_a_new_schedule_of_the_trainer_is_taken_up():
    target, state = trainer(lambda epoch: 1.0), state_of(("a", 0.5, 0.0))
    apply_factors(target, state)
    target.lf = lambda epoch: 0.2  # the trainer builds a new one after every epoch of a run with a time limit
    target.scheduler = lr_scheduler.LambdaLR(target.optimizer, target.lf)
    apply_factors(target, state)
    assert target.lf(0) == pytest.approx(0.1)


# ---------------------------------------------------------------------------------------------- a trainer's own ways

OWN = [lambda epoch: 1.0 - epoch / 10, lambda epoch: 0.02, lambda epoch: 0.5**epoch]
ANNEAL = Anneal(start=2, last=5, first_lr=None, final=0.01)


@pytest.mark.parametrize("anneal", [None, ANNEAL])
def test_each_group_keeps_the_schedule_of_its_own(anneal):
    rates = (0.02, 0.01, 0.03)
    plain = epochs(trainer(*OWN, rates=rates, lf=OWN[0]), 6)
    target = trainer(*OWN, rates=rates, lf=OWN[0])
    changed = epochs(target, 6, halved_from(2), anneal)
    for epoch in range(6):
        ratios = [after / before for after, before in zip(changed[epoch], plain[epoch])]
        assert ratios == pytest.approx([ratios[0]] * 3)
        assert ratios[0] == pytest.approx(0.5) or (anneal and epoch != 2) or epoch < 2
    assert target.lf(3) == pytest.approx(OWN[0](3) * changed[3][0] / plain[3][0])  # where a warm-up would end
    if anneal:
        assert changed[5][1] == pytest.approx(0.5 * 0.01 * 0.01)  # the group with the lowest rate goes to its end


SCHEDULERS = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=1e-4),
    "steps": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, [0.01, 0.03], total_steps=10),
    "multiplied": lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.9),
    "several": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)], milestones=[3]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_another_kind_is_controlled_with_the_same_ratio(name):
    def make():
        target = trainer()
        target.scheduler = SCHEDULERS[name](target.optimizer)
        return target

    plain, seen = epochs(make(), 7), []
    target = make()
    changed = epochs(target, 7, halved_from(3), read=lambda t: seen.append(base_schedule(t)(t.epoch)))
    for epoch in range(7):
        factor = 0.5 if epoch >= 3 else 1.0
        assert changed[epoch] == pytest.approx([rate * factor for rate in plain[epoch]], rel=1e-12)
    assert [group["lr"] for group in target.optimizer.param_groups] == pytest.approx(plain[-1], rel=1e-12)  # as saved
    initial = lowest_group(target)[1]
    assert [multiple * initial for multiple in seen] == pytest.approx([min(rates) for rates in plain], rel=1e-12)


def test_a_scheduler_of_another_kind_goes_to_an_end_that_came_forward():
    target = trainer()
    target.scheduler = SCHEDULERS["cosine"](target.optimizer)
    changed = epochs(target, 6, anneal=Anneal(start=2, last=5, first_lr=0.008, final=0.01))
    assert changed[2] == pytest.approx([0.008, 0.008 * plain_ratio(2)])
    assert changed[5] == pytest.approx([1e-4, changed[5][0] * plain_ratio(5)])


def plain_ratio(epoch):
    """Return how many times the second group's rate is the first one's."""
    target = trainer()
    target.scheduler = SCHEDULERS["cosine"](target.optimizer)
    first, second = epochs(target, epoch + 1)[-1]
    return second / first


def test_a_warm_up_does_not_confuse_a_scheduler_of_another_kind():
    target = trainer(lf=lambda epoch: 1.0)
    target.scheduler = SCHEDULERS["multiplied"](target.optimizer)

    def warm_up(target):
        for group in target.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * target.lf(target.epoch) * 0.5

    epochs(target, 2, state_of(("a", 0.1, 0.0)), read=warm_up)
    assert [group["lr"] for group in target.optimizer.param_groups] == pytest.approx([0.005, 0.015])


@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.0, 0.01)])
def test_a_group_at_0_stays_there_and_does_not_count(rates):
    target = trainer(lambda epoch: 1.0, rates=rates)
    assert lowest_group(target) == ((0, 0.0) if rates[1] == 0 else (1, 0.01))
    trace = epochs(target, 3, state_of(("a", 0.5, 1e-3)), Anneal(1, 2, None, 0.1))
    assert trace[0] == pytest.approx([0.0, rates[1] / 2])
    assert trace[2] == pytest.approx([0.0, 1e-3 if rates[1] else 0.0])  # 0.01 * 0.1 * 0.5 is below the floor
