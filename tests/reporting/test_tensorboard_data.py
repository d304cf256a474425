"""What goes into TensorBoard, with a writer that only takes notes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers import record
from yolo_callbacks import SaveCheckpoint, SetLearningRate
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.reporting.tensorboard_data import (
    MARK,
    Epochs,
    complete_epochs,
    write_decisions,
    write_histograms,
    write_run,
)


class Writer:
    """Takes notes."""

    def __init__(self):
        self.scalars, self.texts, self.histograms, self.summaries = [], {}, {}, []
        self.file_writer = SimpleNamespace(add_summary=self.summaries.append)

    def add_scalar(self, tag, value, step, walltime):
        self.scalars.append((tag, value, step))

    def add_text(self, tag, text, step, walltime=None):
        self.texts[tag, step] = text

    def add_histogram(self, tag, values, step, bins, walltime):
        self.histograms[tag] = list(values)


def entries(*values):
    return [Entry(record(epoch, value)) for epoch, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("written", "complete"), [(set(), 0), ({1, 2, 3}, 3), ({1, 3}, 1), ({2, 3}, 0), ({1, 2, 3, 4}, 3)]
)
def test_epochs_count_as_written_up_to_the_first_gap(written, complete):
    assert complete_epochs(entries(0.1, 0.2, 0.3), written) == complete


def test_the_number_that_every_epoch_has_is_written_last():
    """So that an epoch which has it is complete."""
    writer = Writer()
    Epochs().write(writer, entries(0.5)[0], 0.0)
    assert writer.scalars[-1][0] == MARK
    assert ("metrics/fitness", 0.5, 1) in writer.scalars


def test_the_best_epoch_counts_what_was_written_before():
    writer = Writer()
    *before, newest = entries(0.1, 0.7, None, math.nan, 0.3)
    Epochs(before).write(writer, newest, 0.0)
    assert {tag: value for tag, value, _ in writer.scalars if tag.startswith("best/")} == {
        "best/fitness": 0.7,
        "best/epoch": 2,
    }


def test_decisions_of_a_callback_in_an_epoch_are_one_text():
    writer = Writer()
    decided = [
        SaveCheckpoint("kept a", 3, "A", file="a.pt"),
        SaveCheckpoint("kept b", 3, "A", file="b.pt"),
        SetLearningRate("slower", 3, "B", factor=0.5),
        SetLearningRate("as always", 3, "B", factor=0.5, routine=True),
    ]
    write_decisions(writer, decided)
    assert writer.texts == {
        ("decisions/A", 3): "epoch 3: kept a\n\nepoch 3: kept b",
        ("decisions/B", 3): "epoch 3: slower",
    }


def test_histograms_leave_out_what_is_not_finite():
    writer = Writer()
    sample = {"a": np.array([1.0, np.nan, np.inf, 2.0]), "b": np.array([np.nan])}
    write_histograms(writer, "weights", sample, 1, 0.0)
    assert writer.histograms == {"weights/a": [1.0, 2.0]}


def test_a_run_is_described_without_secrets_and_compared_by_its_hyperparameters():
    writer = Writer()
    about = {
        "task": "detect",
        "versions": {"torch": "2"},
        "args": {"imgsz": 64, "freeze": [1, 2], "api_key": "k3y", "name": "a|b"},
    }
    write_run(writer, about, {"MLflow": {"tracking_uri": "http://me:secret@host"}})
    texts = {tag: text for (tag, _), text in writer.texts.items()}
    assert "| imgsz | 64 |" in texts["run/arguments"]
    assert "| name | a\\|b |" in texts["run/arguments"]
    assert "| torch | 2 |" in texts["run/about"]
    assert "k3y" not in texts["run/arguments"]
    assert "secret" not in texts["run/callbacks"]
    assert "imgsz" in str(writer.summaries)
    assert "api_key" not in str(writer.summaries)
