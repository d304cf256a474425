"""The end of a real training, brought forward: learning rate, mosaic, loss and books, also when it is interrupted."""

import contextlib
import json
import math
from dataclasses import dataclass, field

import pandas as pd
import pytest
from ultralytics import YOLO
from ultralytics.data.augment import Mosaic
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, Crash, constant, crash_in, journal
from yolo_callbacks import EarlyStopping, Finish, LearningRateScheduler, ReduceLROnPlateau

PLANNED, TRIGGER, END, CLOSE_MOSAIC = 14, 4, 8, 2
LR0, LRF, FLOOR = 0.01, 0.02, 0.0007
ARGUMENTS = {
    **TINY,
    **{"epochs": PLANNED, "close_mosaic": CLOSE_MOSAIC, "optimizer": "SGD", "lr0": LR0, "lrf": LRF, "warmup_epochs": 0},
    **{"patience": 0, "mosaic": 1.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0, "cache": "ram"},
}


def finishing(**settings):
    """Its monitor is best in the first epoch: a plateau in the fourth."""
    settings = {"patience": TRIGGER - 1, "finish_epochs": END - TRIGGER, **settings}
    return EarlyStopping(monitor=constant, mode="max", on_plateau="finish", **settings)


@dataclass
class Seen:
    """What there was when the batches of each epoch were done, by its number."""

    rates: dict = field(default_factory=dict)
    mosaic: dict = field(default_factory=dict)
    boxes: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)
    planned: dict = field(default_factory=dict)
    boxes_in_all: int = 0

    def count_boxes(self, trainer):
        """Count what the loader really hands out."""
        self.boxes_in_all = sum(len(label["cls"]) for label in trainer.train_loader.dataset.labels)
        preprocess = trainer.preprocess_batch

        def counting(batch):
            self.boxes[trainer.epoch + 1] += len(batch["cls"])
            return preprocess(batch)

        trainer.preprocess_batch = counting

    def begin(self, trainer):
        self.boxes[trainer.epoch + 1] = 0

    def note_weights(self, trainer):
        self.weights[trainer.epoch + 1] = unwrap_model(trainer.model).criterion.o2m

    def note(self, trainer):
        number = trainer.epoch + 1
        self.rates[number] = [group["lr"] for group in trainer.optimizer.param_groups]
        self.mosaic[number] = any(m.p > 0 for m in mosaics(trainer.train_loader.dataset.transforms))
        self.planned[number] = trainer.epochs

    def __sub__(self, epochs):
        """Return it without the first epochs."""
        kinds = (self.rates, self.mosaic, self.weights, self.planned)
        return [{number: value for number, value in kind.items() if number > epochs} for kind in kinds]


def mosaics(transform):
    """Return every mosaic in a transform that is made of others."""
    inside = getattr(transform, "transforms", None) or [getattr(transform, "pre_transform", None)]
    found = [mosaic for part in inside if part is not None for mosaic in mosaics(part)]
    return [*found, transform] if isinstance(transform, Mosaic) else found


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    """Return a function that trains and gives (attachment, what was seen)."""

    def train(callbacks, *functions, model=None, resume=False, **arguments):
        model, seen = model or YOLO(TINY_MODEL, verbose=False), Seen()
        attachment = ycb.attach(model, callbacks)
        model.add_callback("on_train_start", seen.count_boxes)
        model.add_callback("on_train_epoch_start", seen.begin)
        model.add_callback("on_train_batch_end", seen.note_weights)
        model.add_callback("on_train_epoch_end", seen.note)
        for event, function in functions:
            model.add_callback(event, function)
        project = str(tmp_path_factory.mktemp("finish"))
        given = {"resume": True} if resume else {**ARGUMENTS, "data": str(shapes), "project": project, **arguments}
        with contextlib.suppress(Crash):
            model.train(**given)
        attachment.model = model
        return attachment, seen

    return train


def schedule(cosine=False, end=END, planned=PLANNED):
    """Return what the schedule gives each epoch, as a multiple of lr0."""

    def way(done, first):
        return (first - LRF) * ((1 + math.cos(math.pi * done)) / 2 if cosine else 1 - done) + LRF

    before = [way(epoch / planned, 1.0) for epoch in range(TRIGGER + 1)]
    epochs = end - TRIGGER - 1
    return before[:TRIGGER] + [way(i / epochs, before[TRIGGER]) for i in range(epochs + 1)]


def callbacks():
    """A finish, and reductions over it after epochs 3 and 5: the floor counts in the last two epochs."""
    return [
        finishing(),
        ReduceLROnPlateau(monitor=constant, mode="max", patience=2, factor=0.5, cooldown=1, min_lr=FLOOR),
        LearningRateScheduler(lambda epoch, lr: lr * 0.9 if epoch == 5 else lr),
    ]


FACTORS = [1, 1, 1, 0.5, 0.5, 0.225, 0.225, 0.225]


@pytest.fixture(scope="module")
def whole(run):
    """An undisturbed training."""
    return run(callbacks())


def check_whole(seen, after=0):
    """Check what holds for every training with these callbacks, from an epoch on."""
    numbers = range(after + 1, END + 1)
    assert list(seen.rates) == list(numbers)
    for number, value, factor in zip(range(1, END + 1), schedule(), FACTORS):
        floor = FLOOR if factor < 1 else 0.0
        if number > after:
            assert seen.rates[number] == pytest.approx([max(LR0 * value * factor, floor)] * 3, rel=1e-12), number
    assert seen.planned == {number: PLANNED if number <= TRIGGER else END for number in numbers}
    check_mosaic(seen, END - CLOSE_MOSAIC)


def check_mosaic(seen, last):
    """Check that mosaic is on up to an epoch and then off, in the dataset as in the pictures."""
    assert seen.mosaic == {number: number <= last for number in seen.mosaic}
    assert {n for n, boxes in seen.boxes.items() if n > last and boxes != seen.boxes_in_all} == set()


def test_rate_mosaic_and_end_of_every_epoch(whole):
    _, seen = whole
    check_whole(seen)
    assert set(seen.boxes.values()) != {seen.boxes_in_all}  # what shows mosaic


def test_the_loss_passes_to_the_other_head_at_its_own_pace(whole):
    _, seen = whole
    assert list(seen.weights.values()) == pytest.approx([0.8 - 0.7 * i / (PLANNED - 1) for i in range(END)])


def test_the_books_say_what_was_done_and_why(whole):
    attachment, _ = whole
    content, (decided,) = journal(attachment.save_dir), [d for d in attachment.decisions if isinstance(d, Finish)]
    assert (decided.epoch, decided.end_epoch, decided.planned_epochs) == (TRIGGER, END, PLANNED)
    records = [entry.record for entry in content.entries]
    assert [r.planned_epochs for r in records] == [PLANNED] * TRIGGER + [END] * (END - TRIGGER)
    assert [r.planned_before_finish for r in records] == [0] * TRIGGER + [PLANNED] * (END - TRIGGER)
    assert [r.last for r in records] == [False] * (END - 1) + [True]
    rates = [LR0 * value for value in schedule()]
    assert [r.base_lr for r in records] == pytest.approx(rates, rel=1e-12)
    assert [r.next_base_lr for r in records[:-1]] == pytest.approx(rates[1:], rel=1e-12)
    assert [r.lr_factor for r in records[:6]] == pytest.approx(FACTORS[:6], rel=1e-12)
    assert content.plan.planned_epochs == PLANNED
    said = json.loads((attachment.save_dir / "callbacks" / "run.json").read_text())
    assert (said["status"], said["stop"], said["epochs"]) == ("finished", None, END)
    assert said["args"]["epochs"] == PLANNED
    assert [d["kind"] for d in said["decisions"] if d["kind"] in ("stop", "finish")] == ["finish"]
    assert attachment.stop_reason is None


def test_ultralytics_ends_it_as_any_other(whole):
    attachment, _ = whole
    assert pd.read_csv(attachment.save_dir / "results.csv")["epoch"].tolist() == list(range(1, END + 1))
    finished = YOLO(attachment.save_dir / "weights" / "last.pt").ckpt
    assert (finished["epoch"], finished["optimizer"]) == (-1, None)
    assert finished["train_args"]["epochs"] == PLANNED
    assert (attachment.save_dir / "weights" / "best.pt").exists()


@pytest.mark.parametrize("number", [TRIGGER + 1, END], ids=["right after the trigger", "after mosaic has closed"])
def test_a_resumed_run_finishes_as_if_it_had_not_been_cut(number, run, whole):
    undisturbed, expected = whole
    cut, _ = run(callbacks(), ("on_train_batch_start", crash_in(number)))
    model = YOLO(cut.save_dir / "weights" / "last.pt")
    resumed, seen = run(callbacks(), *([out_of_memory()] if number == END else []), model=model, resume=True)
    check_whole(seen, number - 1)
    assert (seen - 0)[2] == pytest.approx((expected - (number - 1))[2])
    assert resumed.decisions == undisturbed.decisions
    columns = ["lr/pg0", "lr_factor", "event", "EarlyStopping/wait"]
    assert resumed.history[columns].equals(undisturbed.history[columns])
    assert resumed.stop_reason is None


def out_of_memory():
    """Return a function that lets the first batch of the training fail, after which it is tried with half the batch."""
    hooks = []

    def fail(*_):
        hooks.pop().remove()
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return "on_train_start", lambda trainer: hooks.append(trainer.model.register_forward_pre_hook(fail))


def test_a_run_that_died_in_its_very_end_has_nothing_left_to_train(run):
    cut, seen = run([finishing()], ("on_model_save", crash_in(END)))
    assert seen.planned[END] == END
    resumed, seen = run([finishing()], model=YOLO(cut.save_dir / "weights" / "last.pt"), resume=True)
    assert seen.rates == {}
    assert resumed.history.index.tolist() == list(range(1, END + 1))
    said = json.loads((resumed.save_dir / "callbacks" / "run.json").read_text())
    assert (said["status"], said["epochs"]) == ("finished", END)
    assert YOLO(resumed.save_dir / "weights" / "last.pt").ckpt["epoch"] == -1


def test_epochs_that_are_repeated_after_nan(run):
    left = {TRIGGER + 2, END - CLOSE_MOSAIC + 1}  # the second is the first without mosaic

    def write_nan(trainer):
        if trainer.epoch + 1 in left:
            left.remove(trainer.epoch + 1)
            next(trainer.model.parameters()).data.fill_(math.nan)

    attachment, seen = run(callbacks(), ("on_train_batch_start", write_nan))
    assert not left
    check_whole(seen)
    assert [d.epoch for d in attachment.decisions if isinstance(d, Finish)] == [TRIGGER]


def impatient(trainer):
    """Let the trainer's own early stopping see a best first epoch: pictures of 64 pixels teach nothing."""
    trainer.stopper.best_fitness, trainer.stopper.best_epoch = 1.0, 1


def test_half_a_cosine_in_place_of_the_trainers_own_early_stopping(run):
    """It runs out in the same epoch, as its patience is the one that is taken; later it is held, also on a resume."""
    callbacks, first = [finishing(patience=None)], ("on_train_start", impatient)
    crash = ("on_train_batch_start", crash_in(END))
    cut, seen = run(callbacks, first, crash, cos_lr=True, patience=TRIGGER - 1)
    resumed, rest = run(callbacks, first, model=YOLO(cut.save_dir / "weights" / "last.pt"), resume=True)
    rates = {number: rates[0] for number, rates in {**seen.rates, **rest.rates}.items()}
    assert list(rates) == list(range(1, END + 1))
    assert list(rest.rates) == [END]
    assert list(rates.values()) == pytest.approx([LR0 * value for value in schedule(cosine=True)], rel=1e-12)
    assert resumed.history.index.tolist() == list(range(1, END + 1))
    assert resumed.stop_reason is None


def test_a_time_limit_plans_anew_after_every_epoch_and_the_finish_stays(run):
    attachment, seen = run([finishing(finish_epochs=3)], time=1.0, close_mosaic=0)
    end = TRIGGER + 3
    records = [entry.record for entry in journal(attachment.save_dir).entries]
    assert min(r.planned_epochs for r in records[:TRIGGER]) > 100
    assert [r.planned_epochs for r in records[TRIGGER:]] == [end] * 3
    assert [r.epoch for r in records if r.last] == [end]
    first = records[TRIGGER - 1].next_base_lr
    rates = [first, (first + LR0 * LRF) / 2, LR0 * LRF]
    assert [seen.rates[number][0] for number in (5, 6, 7)] == pytest.approx(rates, rel=1e-12)
    assert all(seen.mosaic.values())
    assert attachment.stop_reason is None
    again = attachment.model
    again.train(**{**ARGUMENTS, "epochs": 2, "data": again.trainer.args.data, "project": str(attachment.save_dir)})
    assert attachment.history["event"].tolist() == ["", ""]
    assert attachment.history["lr/pg0"].tolist() == [LR0, LR0 * (0.5 * (1 - LRF) + LRF)]
