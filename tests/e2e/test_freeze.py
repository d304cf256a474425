"""Layers that are frozen in a real training: to the bit, for as long as was asked, and whatever happens meanwhile."""

import contextlib
import math
from dataclasses import dataclass, field

import pandas as pd
import pytest
import torch
from torch.nn import BatchNorm2d
from ultralytics import YOLO
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, Crash, crash_in
from yolo_callbacks import FreezeBackbone, LearningRateScheduler, ModelCheckpoint, SetFrozen
from yolo_callbacks.trainer.versions import ultralytics_is_at_least

ARGUMENTS = {**TINY, "batch": 2, "nbs": 2, "epochs": 4, "lr0": 0.01, "warmup_epochs": 0}
FROZEN_FOR = 2
YOLO26N = "yolo26n.yaml"


@dataclass
class Epoch:
    """What was there when the batches of an epoch were done."""

    number: int
    backbone: tuple
    weights: dict
    ema: dict
    parameters: set
    learns: set
    listed: list
    in_eval: set
    groups: list
    remembered: set
    steps: dict = field(default_factory=dict)


def look(trainer):
    model, optimizer = unwrap_model(trainer.model), trainer.optimizer
    names = {parameter: name for name, parameter in model.named_parameters()}
    return Epoch(
        number=vars(trainer).get("epoch", -1) + 1,
        backbone=tuple(f"model.{index}." for index in range(len(model.yaml["backbone"]))),
        weights={name: value.clone() for name, value in model.state_dict().items()},
        ema={name: value.clone() for name, value in trainer.ema.ema.state_dict().items()},
        parameters=set(names.values()),
        learns={name for name, parameter in model.named_parameters() if parameter.requires_grad},
        listed=list(trainer.freeze_layer_names),
        in_eval={n for n, m in model.named_modules() if isinstance(m, BatchNorm2d) and not m.training},
        groups=[(len(g["params"]), sorted(set(g) - {"params"})) for g in optimizer.param_groups],
        remembered={names[parameter] for parameter in optimizer.state},
        steps={names[p]: int(state["step"]) for p, state in optimizer.state.items() if "step" in state},
    )


def watch(model, epochs):
    """Note how the training begins, and each time that the batches of an epoch are done."""
    model.add_callback("on_train_start", lambda t: epochs.append(look(t)))
    model.add_callback("on_train_epoch_end", lambda t: epochs.append(look(t)))


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    """Return a function that trains and gives (attachment, epochs, folder)."""

    def train(callbacks, model=None, before=None, **arguments):
        model, epochs = model or YOLO(TINY_MODEL, verbose=False), []
        attachment = ycb.attach(model, callbacks)
        watch(model, epochs)
        for event, function in before or ():
            model.add_callback(event, function)
        folder = tmp_path_factory.mktemp("freeze")
        resume = arguments.pop("resume", False)
        given = {"resume": True} if resume else {**ARGUMENTS, "data": str(shapes), "project": str(folder), **arguments}
        with contextlib.suppress(Crash):
            model.train(**given)
        return attachment, epochs

    return train


def backbone(epoch):
    return {name: value for name, value in epoch.weights.items() if name.startswith(epoch.backbone)}


def changed(one, other):
    """Return the names of what differs; how many batches a BatchNorm has seen counts too."""
    return {name for name in one if not torch.equal(one[name], other[name])}


def check_frozen(epoch, before):
    """Check that the backbone is what it was, and the rest is not."""
    assert changed(backbone(epoch), backbone(before)) == set()
    assert len(changed(epoch.weights, before.weights)) > 0.8 * (len(epoch.weights) - len(backbone(epoch)))
    assert not any(name.startswith(epoch.backbone) for name in epoch.learns)
    norms = {name.rpartition(".")[0] for name in backbone(epoch) if name.endswith("running_mean")}
    assert epoch.in_eval == norms
    assert set(epoch.listed) == {".dfl", *epoch.backbone}
    assert not any(name.startswith(epoch.backbone) for name in epoch.remembered)
    assert all(torch.equal(epoch.ema[name], value) for name, value in backbone(epoch).items())


def check_learns(epoch, before):
    """Check that every tensor of the backbone has changed, and that nothing is left of the freezing."""
    assert changed(backbone(epoch), backbone(before)) == set(backbone(epoch))
    assert epoch.learns == epoch.parameters
    assert epoch.in_eval == set()
    assert epoch.listed == [".dfl"]


@pytest.fixture(scope="module")
def adamw(run):
    """An undisturbed training."""
    return freeze(run, "AdamW", TINY_MODEL)


@pytest.fixture(scope="module", params=["SGD", "AdamW", "MuSGD"])
def whole(request, run):
    """An undisturbed training with each optimizer; in the large model one layer's name is in another one's."""
    return freeze(run, request.param, YOLO26N if request.param == "AdamW" else TINY_MODEL)


def freeze(run, optimizer, architecture):
    callbacks = [FreezeBackbone(FROZEN_FOR), ModelCheckpoint("e{epoch}", save_best_only=False)]
    return run(callbacks, model=YOLO(architecture, verbose=False), optimizer=optimizer)


def test_weights_and_statistics_stay_until_the_epoch_and_learn_after_it(whole):
    _, (start, *epochs) = whole
    for epoch, before in zip(epochs, [start, *epochs]):
        (check_frozen if epoch.number <= FROZEN_FOR else check_learns)(epoch, before)


def test_the_optimizer_is_what_it_is_without_us_and_in_every_checkpoint(whole, run):
    attachment, (start, *epochs) = whole
    assert all(epoch.groups == start.groups for epoch in epochs)
    for number in (1, 2, 3, 4):
        file = attachment.save_dir / "weights" / f"e{number}.pt"
        saved = torch.load(file, weights_only=False)["optimizer"]
        # parameters are numbered through: a group more, or another order, and Ultralytics could not resume it
        sizes = [size for size, _ in start.groups]
        assert [group["params"] for group in saved["param_groups"]] == [
            list(range(sum(sizes[:i]), sum(sizes[: i + 1]))) for i in range(len(sizes))
        ]
        learning = len(start.parameters & set(backbone(start)))
        assert len(saved["state"]) > 0.9 * (sum(sizes) - (learning if number <= FROZEN_FOR else 0))
        assert (len(saved["state"]) <= sum(sizes) - learning) == (number <= FROZEN_FOR)


def test_the_journal_says_when(whole):
    attachment, _ = whole
    frame = attachment.history
    assert frame["FreezeBackbone/lr_factor"].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert frame["event"].str.contains("FreezeBackbone: unfroze backbone").tolist() == [False, True, False, False]
    decided = [d for d in attachment.decisions if isinstance(d, SetFrozen)]
    assert [(d.epoch, d.frozen, d.message) for d in decided] == [
        (0, True, "froze the backbone until the end of epoch 2"),
        (2, False, "unfroze the backbone"),
    ]


@pytest.mark.parametrize("in_epoch", [2, 3], ids=["while frozen", "right at the boundary"])
def test_a_resumed_run_goes_on_as_if_it_had_not_been_cut(in_epoch, adamw, run):
    undisturbed, (_, *expected) = adamw
    cut, _ = run([FreezeBackbone(FROZEN_FOR)], optimizer="AdamW", before=[("on_train_batch_start", crash_in(in_epoch))])
    model = YOLO(cut.save_dir / "weights" / "last.pt")
    resumed, (start, *epochs) = run([FreezeBackbone(FROZEN_FOR)], model=model, resume=True)
    assert [epoch.number for epoch in epochs] == list(range(in_epoch, 5))
    for epoch, before in zip(epochs, [start, *epochs]):
        (check_frozen if epoch.number <= FROZEN_FOR else check_learns)(epoch, before)
    for epoch, same in zip(epochs, expected[in_epoch - 1 :]):
        assert (epoch.groups, epoch.steps, epoch.remembered) == (same.groups, same.steps, same.remembered)
    assert resumed.decisions == [d for d in undisturbed.decisions if isinstance(d, SetFrozen)]
    columns = ["FreezeBackbone/lr_factor", "lr/pg0"]
    assert resumed.history[columns].equals(undisturbed.history[columns])


def poison(epochs):
    """Make a weight of the frozen part and one of the rest NaN before the second batch of these epochs."""
    left = set(epochs)

    def write_nan(trainer):
        if trainer.tloss is not None and trainer.epoch + 1 in left:
            left.remove(trainer.epoch + 1)
            parameters = list(unwrap_model(trainer.model).parameters())
            for parameter in (parameters[0], parameters[-1]):
                parameter.data.fill_(math.nan)

    return [("on_train_batch_start", write_nan)]


def test_an_epoch_that_is_repeated_after_nan_is_frozen_as_before(adamw, run):
    """Epoch 2 is frozen; epoch 3 is the first that learns, and the trainer goes back to the frozen one's checkpoint."""
    undisturbed, (_, *expected) = adamw
    attachment, (_, *epochs) = run([FreezeBackbone(FROZEN_FOR)], optimizer="AdamW", before=poison({2, 3}))
    assert [epoch.number for epoch in epochs] == [1, 2, 2, 3, 3, 4]
    first, _, second, _, third, fourth = epochs
    # the trainer goes back to its checkpoint, which has half the precision
    saved = {n: v.half().float() if v.is_floating_point() else v for n, v in backbone(first).items()}
    assert changed(backbone(second), saved) == set()
    check_learns(fourth, second)
    for epoch, same in zip((first, second, third, fourth), expected):
        assert (epoch.learns, epoch.in_eval, epoch.listed) == (same.learns, same.in_eval, same.listed)
        assert epoch.groups == same.groups
        if ultralytics_is_at_least(8, 4, 190):  # an older one takes fewer steps in an epoch that it repeats
            assert (epoch.steps, epoch.remembered) == (same.steps, same.remembered)
    assert attachment.decisions == [d for d in undisturbed.decisions if isinstance(d, SetFrozen)]


def test_what_freezes_nothing_changes_nothing(run):
    """No digit of results.csv, and no bit of the weights."""
    plain, (*_, expected) = run([], optimizer="AdamW", epochs=2)
    with_us, (*_, got) = run([FreezeBackbone(0)], optimizer="AdamW", epochs=2)
    frames = [pd.read_csv(r.save_dir / "results.csv", dtype=str).drop(columns="time") for r in (plain, with_us)]
    assert frames[0].equals(frames[1])
    assert changed(got.weights, expected.weights) == set()


def note_rates(rates):
    """Note the rate of each parameter in the second epoch's step, as the optimizer has it."""

    def note(optimizer, *_):
        rates.append({parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]})

    def listen(trainer):
        if trainer.epoch == 1:
            names = {parameter: name for name, parameter in unwrap_model(trainer.model).named_parameters()}
            trainer.optimizer.register_step_pre_hook(note)
            trainer.add_callback(
                "on_train_epoch_end", lambda _: rates.append({names[p]: rate for p, rate in rates.pop().items()})
            )

    return [("on_train_batch_start", listen)]


def test_the_rate_of_what_begins_to_learn(run):
    """In the first step of SGD, which is the gradient times the rate: half of it, in the backbone alone."""
    arguments = {"optimizer": "SGD", "epochs": 2, "batch": 4, "nbs": 4, "lr0": 0.5}
    halved = LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch == 1 else lr)
    steps, rates, columns = {}, {}, {}
    for name, callbacks in {
        "full": [FreezeBackbone(1)],
        "half": [FreezeBackbone(1, lr_factor=0.5)],
        "half of half": [FreezeBackbone(1, lr_factor=0.5), halved],
    }.items():
        seen = []
        attachment, (_, before, after) = run(callbacks, before=note_rates(seen), **arguments)
        (rates[name],) = seen
        steps[name] = {n: after.weights[n].double() - before.weights[n].double() for n in after.learns}
        columns[name] = attachment.history.loc[2, [f"lr/pg{i}" for i in range(3)]].tolist()
    learned = 0
    for name, step in steps["full"].items():
        factor = 0.5 if name.startswith(before.backbone) else 1.0
        assert rates["half"][name] == rates["full"][name] * factor
        assert rates["half of half"][name] == pytest.approx(rates["half"][name] * 0.5, rel=1e-12)
        # the weights are of the order of 1, and what is left of such a step is rounded to theirs
        assert (steps["half"][name] - step * factor).abs().max() < 2.5e-7
        learned += factor == 0.5 and bool(step.abs().max() > 2.5e-5)
    assert learned == len(before.parameters & set(backbone(before)))
    assert columns["half"] == columns["full"]  # those of the other layers
    assert columns["half of half"] == pytest.approx([rate / 2 for rate in columns["full"]], rel=1e-12)


def test_layers_of_ones_choice_in_turn_beside_the_users_own_freeze(run):
    """model.0 is frozen by `freeze`, for good; the rest of the backbone and a part of the head by us."""
    callbacks = [FreezeBackbone(1, layers="model.3.cv*"), FreezeBackbone(2, layers=2, lr_factor=0.5)]
    _, (start, *epochs) = run(callbacks, optimizer="AdamW", freeze=1, epochs=3)
    everything = start.parameters
    kept = [("model.0.", "model.1.", "model.3.cv"), ("model.0.", "model.1."), ("model.0.",)]
    for epoch, before, names in zip(epochs, [start, *epochs], kept):
        assert epoch.learns == {name for name in everything if not name.startswith(names)}
        same = {name for name in epoch.weights if name.startswith(names)}
        assert changed(epoch.weights, before.weights) & same == set()
        assert {n for n in epoch.in_eval if not n.startswith(names)} == set()
    assert set(epochs[0].listed) == {"model.0.", ".dfl", "model.1.", "model.3.cv2.", "model.3.cv3."}
    assert epochs[1].listed == ["model.0.", ".dfl", "model.1."]
    assert epochs[2].listed == ["model.0.", ".dfl"]


class FreezesAgain(ycb.Callback):
    """Freezes what has learned, for one epoch: the momentum of then is not that of later."""

    priority = ycb.Priority.DECIDE

    def decide(self, history):
        if history.epoch in (1, 2):
            yield SetFrozen("", history.epoch, layers=["model.1.*"], frozen=history.epoch == 1)


def test_a_layer_that_is_frozen_again_begins_anew(run):
    _, (_, first, second, third) = run([FreezesAgain()], optimizer="AdamW", epochs=3)
    layer = {name for name in first.learns if name.startswith("model.1.")}
    assert changed(second.weights, first.weights).isdisjoint({n for n in first.weights if n.startswith("model.1.")})
    assert {second.steps.get(name) for name in layer} == {None}
    assert {third.steps[name] for name in layer} == {2}
    assert third.steps["model.2.conv.weight"] == 6


def test_an_error_in_the_middle_of_a_step_leaves_a_checkpoint_that_can_be_resumed(run):
    """The groups are split then; what is saved has those that the trainer knows."""

    def break_off(*_):
        raise Crash

    def lie_in_wait(trainer):
        if trainer.epoch == 2:
            trainer.optimizer.register_step_pre_hook(break_off)

    callbacks = [FreezeBackbone(1, lr_factor=0.5), ModelCheckpoint(save_on_exception=True)]
    cut, (start, *_) = run(callbacks, optimizer="AdamW", before=[("on_train_batch_start", lie_in_wait)])
    file = cut.save_dir / "weights" / "exception.pt"
    saved = torch.load(file, weights_only=False)["optimizer"]["param_groups"]
    assert [len(group["params"]) for group in saved] == [size for size, _ in start.groups]
    resumed, epochs = run(callbacks, model=YOLO(file), resume=True)
    assert epochs[-1].number == 4
    assert resumed.history["FreezeBackbone/lr_factor"].tolist() == [0.0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([FreezeBackbone(2, layers="modle.3")], r"FreezeBackbone: 'modle\.3' is no layer .*did you mean 'model\.3'"),
        ([FreezeBackbone(2, layers=5)], r"FreezeBackbone: 'model\.4' is no layer .* model\.0, .*, model\.3"),
        ([FreezeBackbone(2), FreezeBackbone(1, layers="model.[123]*")], "this would freeze every trainable layer"),
    ],
    ids=["name", "number", "all"],
)
def test_what_cannot_be_frozen_fails_before_the_first_batch(callbacks, message, train):
    started = []
    with pytest.raises(ValueError, match=message):
        train(callbacks, before=lambda m: m.add_callback("on_train_batch_start", lambda t: started.append(1)))
    assert started == []


@pytest.mark.parametrize("event", ["on_train_start", "on_fit_epoch_end"])
def test_it_cannot_come_when_the_training_has_begun(event, train):
    callback = FreezeBackbone(2)
    with pytest.raises(ValueError, match="FreezeBackbone comes too late"):
        train([], before=lambda m: m.add_callback(event, getattr(callback, event)))


def test_one_method_is_enough(shapes, tmp_path):
    model, epochs = YOLO(TINY_MODEL, verbose=False), []
    model.add_callback("on_train_start", FreezeBackbone(1).on_train_start)
    watch(model, epochs)
    model.train(**{**ARGUMENTS, "epochs": 2}, data=str(shapes), project=str(tmp_path), name="run")
    check_frozen(epochs[1], epochs[0])
    check_learns(epochs[2], epochs[1])
