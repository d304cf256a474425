"""A rate for some parameters alone is the same, bit for bit, as a parameter group of their own."""

import copy

import pytest
import torch
from torch import nn
from ultralytics.optim import MuSGD

from yolo_callbacks.trainer.parameter_rates import ParameterRates, reset_state

SETTINGS = {
    "SGD": (torch.optim.SGD, {"lr": 0.05}),
    "SGD with momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "Adam": (torch.optim.Adam, {"lr": 0.01, "betas": (0.9, 0.999)}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.01, "betas": (0.9, 0.999)}),
    "Adamax": (torch.optim.Adamax, {"lr": 0.01}),
    "NAdam": (torch.optim.NAdam, {"lr": 0.01}),
    "RAdam": (torch.optim.RAdam, {"lr": 0.01}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.9}),
    "MuSGD": (MuSGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "muon": 0.2, "sgd": 1.0}),
    "MuSGD's hybrid": (
        MuSGD,
        {"lr": 0.01, "momentum": 0.9, "nesterov": True, "muon": 0.2, "sgd": 1.0, "use_muon": True},
    ),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def weights(net):
    return [p for p in net.parameters() if p.ndim == 2]


DECAY = {"weight_decay": 0.1}


def step(net, optimizer, number):
    torch.manual_seed(100 + number)
    net(torch.randn(16, 6)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def same(net, other):
    return all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters()))


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_a_group_of_its_own_for_the_length_of_a_step(name):
    kind, setting = SETTINGS[name]
    ours, theirs = network(), network()
    optimizer = kind([{"params": weights(ours)}], **setting, **DECAY)
    grouped = kind([{"params": weights(theirs)[:1]}, {"params": weights(theirs)[1:]}], **setting, **DECAY)
    rates, group, whole = ParameterRates(), optimizer.param_groups[0], optimizer.param_groups
    for number in range(12):
        # another factor halfway, and a schedule that goes on
        factor = 0.1 if number < 6 else 0.7
        rates.set(optimizer, {weights(ours)[0]: factor})
        lr = setting["lr"] * (1 - number / 20)
        group["lr"] = lr
        grouped.param_groups[0]["lr"], grouped.param_groups[1]["lr"] = lr * factor, lr
        step(ours, optimizer, number)
        step(theirs, grouped, number)
        assert same(ours, theirs), number
        assert optimizer.param_groups is whole
        assert whole == [group]
        assert group["lr"] == lr
        assert len(group["params"]) == 3


def test_a_factor_is_exactly_that_part_of_a_step():
    net, half = network(), network()
    one, other = (torch.optim.SGD(n.parameters(), lr=0.0625) for n in (net, half))
    rates = ParameterRates()
    rates.set(other, {half[0].weight: 0.5})
    gradients = [torch.randn_like(p) for p in net.parameters()]
    for n, optimizer in ((net, one), (half, other)):
        for p, gradient in zip(n.parameters(), gradients):
            p.data.zero_()  # from 0 nothing of the step is rounded away
            p.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(half[0].weight, net[0].weight * 0.5)
    assert all(torch.equal(p, q) for p, q in list(zip(net.parameters(), half.parameters()))[1:])


def test_without_factors_nothing_is_left_on_the_optimizer():
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    rates = ParameterRates()
    for _ in range(3):
        rates.set(optimizer, {net[0].weight: 0.5})
    assert len(optimizer._optimizer_step_pre_hooks) == len(optimizer._optimizer_step_post_hooks) == 1
    rates.set(optimizer, {})
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_another_optimizer_takes_its_place():
    net = network()
    first, second = torch.optim.SGD(net.parameters(), lr=0.1), torch.optim.SGD(net.parameters(), lr=0.1)
    rates = ParameterRates()
    rates.set(first, {net[0].weight: 0.5})
    rates.set(second, {net[0].weight: 0.5})
    assert not first._optimizer_step_pre_hooks
    assert len(second._optimizer_step_pre_hooks) == 1


def test_a_step_that_breaks_leaves_groups_that_can_be_put_back():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    whole, fresh = optimizer.param_groups, copy.deepcopy(optimizer.state_dict())
    rates = ParameterRates()
    rates.set(optimizer, {net[0].weight: 0.5})

    def fail(*_):
        raise KeyboardInterrupt

    broken = optimizer.register_step_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    assert len(optimizer.param_groups) == 2
    rates.restore_groups()
    assert optimizer.param_groups is whole
    assert optimizer.state_dict() == fresh
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    broken.remove()
    step(net, optimizer, 0)  # without anybody having put them back
    assert optimizer.param_groups is whole


def test_a_state_that_is_loaded_is_split_as_well():
    """As after NaN: load_state_dict puts new groups in place of the old ones."""
    net, reference = network(), network()
    optimizer, other = (torch.optim.SGD(n.parameters(), lr=0.1, momentum=0.9) for n in (net, reference))
    rates, state = ParameterRates(), copy.deepcopy(optimizer.state_dict())
    rates.set(optimizer, {net[0].weight: 0.5})
    step(net, optimizer, 0)
    net.load_state_dict(reference.state_dict())
    optimizer.load_state_dict(state)
    step(net, optimizer, 1)
    step(reference, other, 1)
    assert not torch.equal(net[0].weight, reference[0].weight)
    assert torch.equal(net[2].weight, reference[2].weight)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", SETTINGS)
def test_what_has_no_gradient_is_not_touched_and_what_is_forgotten_begins_anew(name):
    """What freezing leans on, of each optimizer: no weight decay and no momentum without a gradient."""
    kind, setting = SETTINGS[name]
    net = network()
    optimizer = kind([{"params": weights(net)}], **setting, **DECAY)
    for number in range(3):
        step(net, optimizer, number)
    first = net[0].weight
    first.requires_grad_(False)
    first.grad = None
    reset_state(optimizer, [first])
    reset_state(optimizer, [first])
    before = first.detach().clone()
    for number in range(3, 6):
        step(net, optimizer, number)
    assert torch.equal(first, before)
    assert first not in optimizer.state
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    assert first not in optimizer.state
    fresh = copy.deepcopy(net)
    fresh[0].weight.requires_grad_(True)
    first.requires_grad_(True)
    alone = kind([{"params": weights(fresh)[:1]}], **setting, **DECAY)
    step(net, optimizer, 6)
    step(fresh, alone, 6)
    assert torch.equal(first, fresh[0].weight)
