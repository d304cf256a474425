"""Trainings that skip validations: what Ultralytics, its files and the other callbacks make of them."""

import csv
import json

import pandas as pd
import polars
import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, attachment_of, crash_in, journal
from yolo_callbacks import StopReason

SCHEDULE = {"every": 3, "always_last": 1}
EPOCHS, VALIDATED = 7, [1, 3, 6, 7]


def validated(run):
    return [record.epoch for record in (entry.record for entry in journal(run.save_dir).entries) if record.validated]


def rows(run):
    with open(run.save_dir / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


class Notes(ycb.Callback):
    """Notes what the trainer has after each epoch, and which of them it has saved as the best."""

    def __init__(self):
        self.fitness, self.metrics, self.best, self.stopper = [], [], [], []
        self.saved, self.validates = [], set()

    def on_model_save(self, trainer):
        super().on_model_save(trainer)
        content = torch.load(trainer.last, weights_only=False)
        metrics = content["train_metrics"]
        self.saved.append((content["epoch"] + 1, metrics["fitness"], list(metrics)))
        self.validates.add(content["train_args"]["val"])

    def on_fit_epoch_end(self, trainer):
        super().on_fit_epoch_end(trainer)
        if len(self.fitness) < trainer.epoch + 1:  # not the final evaluation
            self.fitness.append(trainer.fitness)
            self.metrics.append(dict(trainer.metrics))
            self.best.append(torch.load(trainer.best, weights_only=False)["epoch"] + 1)
            self.stopper.append(trainer.stopper.best_epoch)


@pytest.fixture(scope="module")
def seen():
    return Notes()


@pytest.fixture(scope="module")
def run(seen, shapes, tmp_path_factory):
    """One training; its fitness is made to fall, so that a stale one would be the best again."""
    model = YOLO(TINY_MODEL, verbose=False)
    attachment = ycb.attach(model, [ycb.ValidationSchedule(**SCHEDULE), ycb.CSVLogger(), ycb.PlotLogger(), seen])

    def falling(trainer):
        validate = trainer.validate

        def falls():
            metrics, _ = validate()
            fitness = 0.9 - trainer.epoch / 100
            trainer.best_fitness = max(fitness, trainer.best_fitness or 0.0)
            return metrics, fitness

        trainer.validate = falls

    model.add_callback("on_pretrain_routine_end", falling)
    settings = {**TINY, "data": str(shapes), "project": str(tmp_path_factory.mktemp("runs")), "name": "run"}
    model.train(**settings, epochs=EPOCHS)
    return attachment


def test_the_scheduled_epochs_are_validated_and_no_others(run, seen):
    assert validated(run) == VALIDATED
    assert [epoch for epoch, fitness in enumerate(seen.fitness, 1) if fitness is not None] == VALIDATED
    assert [epoch for epoch, metrics in enumerate(seen.metrics, 1) if metrics] == VALIDATED


def test_a_skipped_epoch_has_empty_cells_in_results_csv_and_all_columns(run):
    for row in rows(run):
        empty = {name for name, cell in row.items() if cell == ""}
        skipped = int(row["epoch"]) not in VALIDATED
        assert empty == ({name for name in row if name.startswith(("metrics/", "val/"))} if skipped else set())
        assert None not in row and None not in row.values()


def test_other_readers_take_an_empty_cell_for_a_missing_number(run):
    file = run.save_dir / "results.csv"
    for frame in (pd.read_csv(file), polars.read_csv(file.read_bytes(), infer_schema_length=None).to_pandas()):
        measured = frame["metrics/mAP50-95(B)"]
        assert measured.dtype == float
        assert frame["epoch"][measured.notna()].tolist() == VALIDATED
    from ultralytics.utils.plotting import plot_results

    plot_results(file)
    assert (run.save_dir / "results.png").stat().st_size > 10_000


def test_the_journal_has_no_metric_of_a_skipped_epoch(run):
    for entry in journal(run.save_dir).entries:
        measured = [key for key in entry.record.metrics if key.startswith(("metrics/", "val/", "fitness"))]
        assert bool(measured) is (entry.record.epoch in VALIDATED)
        assert ("validation/seconds" in entry.record.metrics) is (entry.record.epoch in VALIDATED)
    table = pd.read_csv(run.save_dir / "callbacks" / "epochs.csv")
    assert table["epoch"][table["validated"]].tolist() == VALIDATED


def test_a_later_epoch_without_fitness_never_becomes_the_best(run, seen):
    assert seen.best == [1] * EPOCHS
    assert seen.stopper == [1] * EPOCHS


def test_a_checkpoint_of_a_skipped_epoch_has_no_stale_metric_and_validates_after_a_resume(seen):
    assert [epoch for epoch, fitness, _ in seen.saved if fitness is not None] == VALIDATED
    assert all(metrics == (["fitness"] if epoch not in VALIDATED else metrics) for epoch, _, metrics in seen.saved)
    assert seen.validates == {True}


@pytest.fixture(scope="module")
def interrupted(shapes, tmp_path_factory):
    """A run that is interrupted after a skipped epoch, and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {**TINY, "data": str(shapes), "project": str(folder), "name": "run"}
    model = YOLO(TINY_MODEL, verbose=False)
    ycb.attach(model, [ycb.ValidationSchedule(**SCHEDULE), ycb.BackupAndRestore()])
    model.add_callback("on_train_epoch_start", crash_in(6, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.train(**settings, epochs=EPOCHS)
    model = YOLO(ycb.newest_checkpoint(folder / "run"))
    resumed = ycb.attach(model, [ycb.ValidationSchedule(**SCHEDULE), ycb.BackupAndRestore()])
    model.train(resume=True)
    return resumed


def test_a_resumed_run_has_the_same_schedule(interrupted):
    assert validated(interrupted) == VALIDATED
    assert [int(row["epoch"]) for row in rows(interrupted)] == list(range(1, EPOCHS + 1))


def test_a_run_that_is_stopped_validates_its_last_epoch(train):
    def before(model):
        attached = attachment_of(model)
        model.add_callback("on_train_batch_end", lambda trainer: trainer.epoch == 1 and attached.stop())

    run = train([ycb.ValidationSchedule(9, 1)], before=before, epochs=5)
    assert validated(run) == [1, 2]
    assert run.stop_reason is StopReason.REQUESTED


def test_a_run_with_a_time_limit_validates_its_last_epoch(train):
    run = train([ycb.ValidationSchedule(50, 1)], epochs=50, time=1 / 3600)
    epochs = [entry.record.epoch for entry in journal(run.save_dir).entries]
    assert validated(run)[0] == 1
    assert validated(run)[-1] == epochs[-1]


def test_a_patience_counts_epochs_and_runs_out_in_time(train):
    rule = ycb.EarlyStopping(monitor=lambda m: 1.0 + 0 * m["fitness"], mode="max", patience=4)
    run = train([ycb.ValidationSchedule(9, 1), rule], epochs=9)
    assert validated(run) == [1, 5]
    assert run.stop_reason is StopReason.PLATEAU


def test_ultralytics_own_patience_runs_out_in_time(train):
    def high_at_first(trainer):
        trainer.stopper.best_fitness, trainer.stopper.best_epoch = 2.0, 1

    def before(model):
        model.add_callback("on_train_start", high_at_first)

    run = train([ycb.ValidationSchedule(9, 1)], before=before, epochs=9, patience=3)
    assert validated(run) == [1, 4]
    assert run.stop_reason is StopReason.TRAINER_PATIENCE


def test_without_validation_it_does_nothing_and_says_so(train, said):
    run = train([ycb.ValidationSchedule(**SCHEDULE)], val=False)
    assert validated(run) == [3]
    assert said.warnings == ["ValidationSchedule does nothing: train(val=False) already skips each validation"]


def test_run_json_has_the_schedule(run):
    told = json.loads((run.save_dir / "callbacks" / "run.json").read_text())
    assert told["status"] == "finished"
    assert told["callbacks"]["ValidationSchedule"]["every"] == 3
