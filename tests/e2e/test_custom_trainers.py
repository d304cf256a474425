"""Trainers that somebody has written on top of Ultralytics' own."""

import json

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR
from ultralytics.models.yolo.detect import DetectionTrainer

import yolo_callbacks as ycb
from tests.helpers import attachment_of
from yolo_callbacks import StopReason

SGD = {"optimizer": "SGD", "lr0": 0.01, "momentum": 0.9}
LAMBDAS = [lambda epoch: 1.0 - epoch / 10, lambda epoch: 0.03, lambda epoch: 0.5**epoch]


class Worse(DetectionTrainer):
    """Its fitness falls from epoch to epoch, and it gives the same dict after every validation, with a metric more."""

    found = None

    def validate(self):
        metrics, _ = super().validate()
        self.found = self.found or metrics
        fitness = 0.9 - 0.1 * self.epoch
        self.found.update(metrics, **{"metrics/F2(B)": fitness})
        self.best_fitness = max(self.best_fitness or 0.0, fitness)
        return self.found, fitness


class OwnLambdas(Worse):
    """A schedule for each group, none for a warm-up, and methods with more arguments."""

    def _setup_scheduler(self):
        self.scheduler = LambdaLR(self.optimizer, lr_lambda=LAMBDAS)

    def save_model(self, note=""):
        return super().save_model()

    def save_metrics(self, metrics, note="none"):
        super().save_metrics({**metrics, "noted": float(note == "none")})


class Cosine(Worse):
    """A scheduler in which no factor fits."""

    def _setup_scheduler(self):
        super()._setup_scheduler()
        self.scheduler = CosineAnnealingLR(self.optimizer, T_max=10)


class Halve(ycb.Callback):
    """Halves the rate from the second epoch on, and does not say after which it has decided so."""

    def decide(self, history):
        return ycb.SetLearningRate("halve", factor=0.5) if history.epoch == 1 else None


def trace(rates):
    def note(trainer):
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])

    return lambda model: model.add_callback("on_train_epoch_end", note)


def journal(run):
    lines = (run.save_dir / "callbacks" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["record"] for line in map(json.loads, lines) if "record" in line]


def test_groups_with_schedules_of_their_own_and_a_metric_of_ones_own(train):
    rates = []
    stop = ycb.EarlyStopping("metrics/F2(B)", mode="max", patience=2)
    run = train([Halve(), stop, ycb.CSVLogger()], before=trace(rates), trainer=OwnLambdas, epochs=5, **SGD)
    own = [[0.01 * schedule(epoch) for schedule in LAMBDAS] for epoch in range(3)]
    assert rates == [pytest.approx([rate * factor for rate in own[i]]) for i, factor in enumerate([1, 0.5, 0.5])]
    records = journal(run)
    assert [record["validated"] for record in records] == [True] * 3
    assert [record["lr_factor"] for record in records] == pytest.approx([1.0, 0.5, 0.5])
    assert [record["base_lr"] for record in records] == pytest.approx([rates[0] for rates in own])
    assert run.history["metrics/F2(B)"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert [(d.kind, d.epoch) for d in run.decisions] == [("set_learning_rate", 1), ("stop", 3)]


def test_another_scheduler_and_a_stop_of_ultralytics_own_patience_without_saving(train):
    rates, kinds = [], []

    def note_kind(trainer):
        kinds.append(type(trainer.scheduler))

    def before(model):
        trace(rates)(model)
        model.add_callback("on_fit_epoch_end", note_kind)

    run = train(
        [Halve(), ycb.CSVLogger()], before=before, trainer=Cosine, epochs=6, patience=2, save=False, val=True, **SGD
    )
    assert set(kinds) == {CosineAnnealingLR}
    cosine = rates_of_cosine(3)
    assert [groups[0] for groups in rates] == pytest.approx([cosine[0], cosine[1] / 2, cosine[2] / 2])
    assert [record["lr_factor"] for record in journal(run)] == pytest.approx([1.0, 0.5, 0.5])
    assert [record["base_lr"] for record in journal(run)] == pytest.approx(cosine)
    assert run.stop_reason is StopReason.TRAINER_PATIENCE
    assert (run.save_dir / "weights" / "last.pt").is_file()  # train() has returned with a model


def test_a_rate_of_0_and_a_stop_of_the_users_own_without_saving(train):
    answers = []

    def before(model):
        model.add_callback("on_pretrain_routine_start", lambda trainer: answers.append(attachment_of(model).stop()))
        model.add_callback("on_fit_epoch_end", lambda trainer: setattr(trainer, "stop", trainer.epoch == 1))

    run = train(
        [Halve(), ycb.ReduceLROnPlateau(), ycb.LearningRateScheduler(lambda epoch, lr: lr), ycb.CSVLogger()],
        before=before,
        epochs=4,
        **{**SGD, "lr0": 0.0},
        save=False,
    )
    assert answers == [False]  # and it has not stopped after the first epoch
    assert [(record["base_lr"], record["lr_factor"]) for record in journal(run)] == [(0.0, 1.0), (0.0, 0.5)]
    assert run.stop_reason is StopReason.EXTERNAL
    assert (run.save_dir / "weights" / "last.pt").is_file()


def rates_of_cosine(number):
    """Return the rates that the scheduler gives without us, stepped as Ultralytics steps it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler, rates = CosineAnnealingLR(optimizer, T_max=10), []
    scheduler.last_epoch = -1
    for _ in range(number):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates
