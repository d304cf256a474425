"""The trainer's own settings, each trained for real: rows, decisions and learning rates are as they should be."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tests.helpers import constant, journal_records
from yolo_callbacks import (
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SetLearningRate,
    Stop,
    StopReason,
)

ADAMW = {"optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 0, "epochs": 6}
FINAL_SHARE = 0.01  # Ultralytics' default lrf
WARMUP_BIAS_LR = 0.1  # Ultralytics' default


def validate_every_second_epoch(trainer):
    trainer.args.val = trainer.epoch % 2 == 1


def mosaic(trainer):
    """Return the probability of the data set's mosaic."""
    return trainer.train_loader.dataset.transforms.transforms[0].transforms[0].p


@dataclass(frozen=True)
class Case:
    """One setting, and what is special about it; everything else is computed.

    Attributes:
        settings: Arguments of the training, over `ADAMW`.
        initial: Initial learning rate of each parameter group.
        bias: The groups that hold biases: their warm-up starts from a rate of its own.
        batches: Batches an epoch.
        validated: Epochs that are validated if they are reached; None for all.
        patience: What EarlyStopping is given.
        waits: After how many epochs without improvement it then stops; None for never.
        epoch_start: A user's own callback.
        in_force: Shows after each epoch that the setting was not ignored.
        files: Files that must be there in the end.
    """

    settings: dict[str, Any]
    initial: tuple[float, ...] = (0.002,) * 3
    bias: tuple[int, ...] = (2,)
    batches: int = 1
    validated: tuple[int, ...] | None = None
    patience: int | None = 3
    waits: int | None = 3
    epoch_start: Callable[[Any], None] | None = None
    in_force: Callable[[Any], bool] = field(default=lambda trainer: True)
    files: tuple[str, ...] = ()

    @property
    def arguments(self):
        return {**ADAMW, **self.settings}


CASES = {
    "nothing special": Case({}),
    "one epoch": Case({"epochs": 1}),
    "no validation": Case({"val": False}, validated=(6,)),
    "validation in every second epoch": Case(
        {"epochs": 9}, validated=(2, 4, 6, 8, 9), epoch_start=validate_every_second_epoch
    ),
    "no saving": Case({"save": False}, files=("weights/last.pt",)),
    "save_period": Case({"save_period": 1}, files=tuple(f"weights/epoch{index}.pt" for index in range(4))),
    "a stop that comes due in the last epoch": Case({"epochs": 4}),
    "patience 0 means never, a reduction comes due in the last epoch": Case(
        {"patience": 0, "epochs": 5}, patience=None, waits=None
    ),
    "the trainer's patience": Case({"patience": 2}, patience=None, waits=2),
    "a part of the pictures": Case({"fraction": 0.5}, in_force=lambda t: len(t.train_loader.dataset) == 2),
    "a time limit far away": Case({"time": 1.0}, in_force=lambda t: t.epoch == 0 or t.epochs > 100),
    "a time limit far away, cosine": Case({"time": 1.0, "cos_lr": True, "warmup_epochs": 2}),
    "cosine": Case({"cos_lr": True}),
    "warm-up": Case({"warmup_epochs": 2, "batch": 2}, batches=2),
    "optimizer auto": Case({"optimizer": "auto"}, initial=(0.00125,) * 3),
    "SGD": Case({"optimizer": "SGD", "lr0": 0.01, "momentum": 0.9}, initial=(0.01,) * 3),
    "MuSGD": Case(
        {"optimizer": "MuSGD", "lr0": 0.01, "warmup_epochs": 2},
        initial=(0.03, 0.01) * 4,
        bias=(4, 5),
        in_force=lambda t: type(t.optimizer).__name__ == "MuSGD",
    ),
    "close_mosaic": Case({"close_mosaic": 4}, in_force=lambda t: mosaic(t) == (1.0 if t.epoch < 2 else 0.0)),
    "freeze": Case({"freeze": 2}, in_force=lambda t: not t.model.model[1].conv.weight.requires_grad),
    "multi_scale": Case({"multi_scale": 0.5}, in_force=lambda t: t.args.multi_scale == 0.5),
    "rect": Case({"rect": True}, in_force=lambda t: t.train_loader.dataset.rect),
    "single_cls": Case({"single_cls": True}, in_force=lambda t: t.data["nc"] == 1),
    "plots": Case({"plots": True}, files=("results.png",)),
}


def callbacks(patience=3):
    """Decide by the number of the epoch, or by how many were validated: a reduction after 3, a stop after 4."""
    return [
        EarlyStopping(monitor=constant, mode="max", patience=patience),
        ReduceLROnPlateau(monitor=constant, mode="max", factor=0.2, patience=2),
        LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch == 1 else lr),
        ModelCheckpoint("kept", monitor=constant, mode="max"),
        CSVLogger(),
    ]


def expected_decisions(case):
    """Return the epochs that are trained, and (epoch, what was decided), counted by hand."""
    planned, decided, waited, skipped = case.arguments["epochs"], [], 0, 0
    validated = [epoch for epoch in case.validated or range(1, planned + 1) if epoch <= planned]
    closed = case.arguments.get("close_mosaic", planned)  # by default it is closed from the start, which is no change
    for epoch in range(1, planned + 1):
        first = epoch == validated[0]
        warm = epoch <= case.arguments["warmup_epochs"]
        late = closed < planned and epoch > planned - closed
        waits = epoch in validated and not (first or warm or late)
        skipped += epoch not in validated and epoch > min(validated) and not (warm or late)
        if waits:  # those that were not validated count with the next that is
            waited, skipped = waited + 1 + skipped, 0
        stops = case.waits is not None and waits and waited >= case.waits
        goes_on = epoch < planned and not stops
        if goes_on and waits and waited in (2, 4, 6):
            decided.append((epoch, 0.2 ** (waited // 2)))
        if goes_on and epoch == 1:
            decided.append((epoch, 0.5))
        if first:
            decided.append((epoch, "weights/kept.pt"))
        if stops:
            if epoch < planned:
                decided.append((epoch, StopReason.PLATEAU))
            return epoch, decided
    return planned, decided


def what(decision):
    if isinstance(decision, Stop):
        return decision.reason
    return pytest.approx(decision.factor) if isinstance(decision, SetLearningRate) else decision.file


def own_share(case, index, planned):
    """Return what the trainer's own schedule multiplies the initial rate with in an epoch, counted from 0."""
    if case.arguments.get("cos_lr"):
        return FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * index / planned)) / 2
    return FINAL_SHARE + (1 - FINAL_SHARE) * (1 - index / planned)


def factor_of(decided, epoch):
    """Return the product of the last factor of each of the two, before an epoch."""
    factors = [value for e, value in decided if e < epoch and isinstance(value, float)]
    scheduler = 0.5 if 0.5 in factors else 1.0
    return scheduler * min([value for value in factors if value != 0.5], default=1.0)


def expected_rates(case, index, planned, factor):
    """Return the rate of each group in the last batch of an epoch."""
    iterations = min(case.arguments["warmup_epochs"], planned - 1) * case.batches
    done = min(1.0, (case.batches * (index + 1) - 1) / iterations) if iterations else 1.0
    rates = []
    for group, initial in enumerate(case.initial):
        start = WARMUP_BIAS_LR if group in case.bias else 0.0
        target = initial * own_share(case, index, planned) * factor
        rates.append(start + (target - start) * done)
    return rates


def recorder(seen, in_force=lambda trainer: True):
    """Return a user's callback that notes (epoch, planned epochs, real rates) and that the setting is in force."""

    def record(trainer):
        assert in_force(trainer)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        seen.append((trainer.epoch, trainer.epochs, rates))

    return record


def csv_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(run, epochs, validated):
    folder, numbers = run.save_dir, list(range(1, epochs + 1))
    records, rows = journal_records(folder), csv_rows(folder / "callbacks" / "epochs.csv")
    assert [record["epoch"] for record in records] == numbers
    assert [int(row["epoch"]) for row in rows] == numbers
    assert [int(row["epoch"]) for row in csv_rows(folder / "results.csv")] == numbers
    assert run.history.index.tolist() == numbers
    truth = [number in validated for number in numbers]
    assert [record["validated"] for record in records] == truth
    assert [row["validated"] == "True" for row in rows] == truth
    assert run.history["validated"].tolist() == truth
    for record in records:  # what an unvalidated epoch has in the trainer's dict is left over from an earlier one
        measured = [key for key in record["metrics"] if key == "fitness" or key.startswith(("metrics/", "val/"))]
        assert bool(measured) is record["validated"]


def check_rates(run, case, seen, decided):
    assert [index for index, _, _ in seen] == list(range(len(seen)))
    for (index, planned, rates), record in zip(seen, journal_records(run.save_dir), strict=True):
        factor = factor_of(decided, index + 1)
        assert rates == pytest.approx(expected_rates(case, index, planned, factor), rel=1e-9), f"epoch {index + 1}"
        assert record["lr_factor"] == pytest.approx(factor)
        assert [record["metrics"][f"lr/pg{group}"] for group in range(len(rates))] == rates
        own = min(case.initial) * own_share(case, index, planned)
        assert record["base_lr"] == pytest.approx(own, rel=1e-9), f"epoch {index + 1}"


@pytest.mark.parametrize("name", CASES)
def test_rows_decisions_and_rates_are_right_with(name, train):
    case, seen = CASES[name], []

    def before(model):
        model.add_callback("on_train_epoch_end", recorder(seen, case.in_force))
        if case.epoch_start:
            model.add_callback("on_train_epoch_start", case.epoch_start)

    run = train(callbacks(case.patience), before=before, **case.arguments)
    epochs, decided = expected_decisions(case)
    validated = case.validated or range(1, epochs + 1)
    check_rows(run, epochs, validated)
    assert [(d.epoch, what(d)) for d in run.decisions] == sorted(decided, key=lambda item: item[0])
    stopped = any(value is StopReason.PLATEAU for _, value in decided)
    assert run.stop_reason is (StopReason.PLATEAU if stopped else None)
    check_rates(run, case, seen, decided)
    kept = torch.load(run.save_dir / "weights" / "kept.pt", weights_only=False)
    assert kept["epoch"] + 1 == next(iter(validated))
    assert [file for file in case.files if not (run.save_dir / file).is_file()] == []


def test_a_run_that_time_ends_has_one_row_an_epoch(train):
    seen = []
    run = train([CSVLogger()], before=lambda m: m.add_callback("on_train_epoch_end", recorder(seen)), time=0.0003)
    check_rows(run, len(seen), range(1, len(seen) + 1))
    status = json.loads((run.save_dir / "callbacks" / "run.json").read_text())
    assert status["epochs"] == len(seen)


def test_a_run_that_is_out_of_time_at_once_says_so(train):
    run = train([CSVLogger()], time=1e-6, **ADAMW)
    check_rows(run, 1, [1])
    assert run.stop_reason is StopReason.TIME_LIMIT


def test_a_training_loss_can_end_a_run_without_validation(train):
    run = train([EarlyStopping("train_loss", min_delta=1e9, patience=2), CSVLogger()], val=False, **ADAMW)
    check_rows(run, 3, [])
    assert run.stop_reason is StopReason.PLATEAU


def test_a_place_with_spaces_and_letters_of_all_kinds(train, tmp_path):
    run = train(callbacks(), project=str(tmp_path / "Läufe, die zählen"), name="été 中文 #2", **ADAMW)
    assert run.save_dir == tmp_path / "Läufe, die zählen" / "été 中文 #2"
    check_rows(run, 4, range(1, 5))
    (listed,) = json.loads((run.save_dir / "callbacks" / "run.json").read_text(encoding="utf-8"))["checkpoints"]
    assert (run.save_dir / listed["file"]).is_file()


def test_an_old_run_in_the_same_folder_is_neither_mixed_in_nor_lost(train):
    old = train(callbacks(), **ADAMW)
    journal = (old.save_dir / "callbacks" / "journal.jsonl").read_bytes()
    kept = (old.save_dir / "weights" / "kept.pt").read_bytes()
    for _ in range(2):
        run = train([CSVLogger()], **{**ADAMW, "epochs": 1}, exist_ok=True)
        assert run.save_dir == old.save_dir
        check_rows(run, 1, [1])
        assert (run.decisions, run.stop_reason) == ([], None)
        described = json.loads((run.save_dir / "callbacks" / "run.json").read_text())
        assert (described["status"], described["epochs"], described["stop"]) == ("finished", 1, None)
        assert (described["checkpoints"], described.get("decisions", [])) == ([], [])
        assert list(described["callbacks"]) == ["CSVLogger"]
    assert (run.save_dir / "callbacks" / "journal.1.jsonl").read_bytes() == journal
    assert [record["epoch"] for record in journal_records(run.save_dir, "journal.2.jsonl")] == [1]
    assert (run.save_dir / "weights" / "kept.pt.old").read_bytes() == kept
