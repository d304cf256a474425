"""The learning rate of every epoch and group, against an untouched run of the same trainer."""

import pytest
from ultralytics import YOLO

from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks import LearningRateScheduler, ReduceLROnPlateau

EPOCHS = 14


def trace(model, store):
    """Record the rate of each group at the end of each epoch's batches."""
    model.add_callback("on_train_epoch_end", lambda t: store.append([g["lr"] for g in t.optimizer.param_groups]))


@pytest.fixture(scope="module")
def untouched(shapes, tmp_path_factory):
    """Return a function that gives the trace of a run without us; each setting is trained once."""
    known = {}

    def run(**arguments):
        key = tuple(sorted(arguments.items()))
        if key not in known:
            model, rates = YOLO(TINY_MODEL, verbose=False), []
            trace(model, rates)
            folder = str(tmp_path_factory.mktemp("plain"))
            model.train(**{**TINY, **arguments}, data=str(shapes), epochs=EPOCHS, project=folder)
            known[key] = rates
        return known[key]

    return run


SETTINGS = {
    "linear": {"optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 2},
    "cosine": {"optimizer": "SGD", "cos_lr": True, "warmup_epochs": 0},
    "MuSGD": {"optimizer": "MuSGD", "lr0": 0.01, "warmup_epochs": 3},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_reduction_stays_and_is_the_same_in_every_group(name, train, untouched):
    plain, rates = untouched(**SETTINGS[name]), []
    drop = LearningRateScheduler(lambda epoch, lr: lr * 0.1 if epoch == 3 else lr)
    run = train([drop], before=lambda m: trace(m, rates), epochs=EPOCHS, **SETTINGS[name])
    for epoch in range(EPOCHS):
        warm_up = epoch < SETTINGS[name]["warmup_epochs"]
        factor = 1.0 if epoch < 3 else 0.1
        expected = [rate * factor for rate in plain[epoch]]
        if not (warm_up and epoch >= 3):
            assert rates[epoch] == pytest.approx(expected, rel=1e-12), f"epoch {epoch}"
    groups = len(plain[0])
    frame = run.history
    assert frame[[f"lr/pg{i}" for i in range(groups)]].to_numpy().tolist() == rates
    assert frame["lr_factor"].tolist() == pytest.approx([1.0] * 3 + [0.1] * (EPOCHS - 3))
    ratios = {round(max(r) / min(r), 9) for r in rates[4:]}
    assert ratios == ({3.0} if name == "MuSGD" else {1.0})


def test_controllers_multiply_and_keep_to_the_floor(train, untouched):
    arguments = {**SETTINGS["linear"], "close_mosaic": 0}
    plain, rates, floor = untouched(**arguments), [], 1.5e-4
    callbacks = [
        LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch == 4 else lr),
        ReduceLROnPlateau(monitor=lambda m: 1.0, mode="max", factor=0.2, patience=5, min_lr=floor),
    ]
    run = train(callbacks, before=lambda m: trace(m, rates), epochs=EPOCHS, **arguments)
    # the monitor is constant, and the two epochs of the warm-up do not count: a reduction after epochs 7 and 12
    for epoch in range(2, EPOCHS):
        scheduled = plain[epoch][0] * (0.5 if epoch >= 4 else 1.0)
        reduced = scheduled * (0.2 if epoch >= 7 else 1.0) * (0.2 if epoch >= 12 else 1.0)
        assert rates[epoch][0] == pytest.approx(max(reduced, floor) if epoch >= 7 else reduced, rel=1e-9), (
            f"epoch {epoch}"
        )
    assert min(rate for groups in rates[2:] for rate in groups) >= floor * (1 - 1e-12)
    assert run.history["event"].str.contains("ReduceLROnPlateau: lr factor").sum() >= 1


def test_a_schedule_of_ones_own_is_followed_to_the_digit(train):
    rates = []
    train(
        [LearningRateScheduler(lambda epoch, lr: 0.001 / (epoch + 1))],
        before=lambda m: trace(m, rates),
        epochs=5,
        optimizer="AdamW",
        warmup_epochs=0,
    )
    assert [groups[0] for groups in rates] == pytest.approx([0.001 / e for e in range(1, 6)], rel=1e-12)


def test_without_a_decision_the_trainers_own_schedule_is_not_even_wrapped(train, untouched):
    seen = []
    train(
        [ReduceLROnPlateau(patience=500)],
        before=lambda m: m.add_callback("on_train_end", lambda t: seen.append(type(t.lf).__name__)),
        epochs=2,
    )
    assert seen == ["function"]
