"""A training on two ranks: they learn the same, one of them keeps the books, and the parent can read them."""

import json
import re

import pandas as pd
import pytest
from ultralytics import YOLO

from yolo_callbacks import SetLearningRate, StopReason
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.support.storage import fingerprint

EPOCHS = [1, 2, 3, 4, 5, 6]
FACTORS = [0.8**epoch * halved for epoch, halved in zip(EPOCHS, [1, 1, 1, 0.5, 0.5, 0.25])]


@pytest.fixture(scope="module")
def folder(whole):
    return whole.folder / "run"


@pytest.fixture(scope="module")
def journal(folder):
    return read_journal(folder / "callbacks" / "journal.jsonl")


def seen(launch, rank, what):
    return [(line["epoch"], line[what]) for line in launch.witness(rank) if what in line]


def test_both_ranks_have_the_same_learning_rate_in_every_batch(whole):
    rates = seen(whole, 0, "rates")
    assert [epoch for epoch, _ in rates] == sorted(EPOCHS * 2)
    assert seen(whole, 1, "rates") == rates


def test_the_learning_rate_is_the_one_that_was_decided(whole, journal):
    last = {epoch: rates[0] for epoch, rates in seen(whole, 1, "rates")}
    own = {entry.record.epoch: entry.record.base_lr for entry in journal.entries}
    after_warmup = EPOCHS[1:]
    assert [last[epoch] / own[epoch] for epoch in after_warmup] == pytest.approx(FACTORS[1:])
    assert [entry.record.lr_factor for entry in journal.entries] == pytest.approx(FACTORS)


def test_both_ranks_have_the_same_weights_after_every_epoch(whole):
    weights = seen(whole, 0, "weights")
    assert len({digest for _, digest in weights}) == len(EPOCHS)
    assert seen(whole, 1, "weights") == weights


def test_both_ranks_stop_in_the_same_epoch(whole):
    for rank in (0, 1):
        assert [epoch for epoch, _ in seen(whole, rank, "done")] == EPOCHS
    assert not whole.left_behind


def test_one_rank_says_what_is_attached_and_the_parent_how_it_went(whole, folder):
    assert whole.output.count("Callbacks: ") == 1  # the second training is told not to be verbose
    assert whole.output.count(" yolo-callbacks ") == 1
    frame = whole.output.partition(" yolo-callbacks ")[2]
    assert "Epochs      6 of " in frame
    assert f"Run         {folder}" in frame


def test_the_journal_has_every_epoch_once(folder):
    lines = [json.loads(line) for line in (folder / "callbacks" / "journal.jsonl").read_text().splitlines()]
    assert sum("plan" in line for line in lines) == 1
    assert [line["record"]["epoch"] for line in lines if "record" in line] == EPOCHS


def test_the_table_has_a_row_for_every_epoch(folder):
    assert pd.read_csv(folder / "callbacks" / "epochs.csv")["epoch"].tolist() == EPOCHS


def test_one_rank_validates_on_all_pictures_of_another_data_set(whole, folder):
    measured = pd.read_csv(folder / "callbacks" / "epochs.csv").set_index("epoch")["test/box_loss"].dropna()
    assert measured.index.tolist() == [1, 4]  # epoch 6 is not the last planned one
    pictures = re.findall(r"ExtraValidation: validating on split 'train'.*\n(?:.*\n){,9}? +all +(\d+) ", whole.output)
    assert pictures[:2] == ["4", "4"]  # not a rank's half
    assert "ExtraValidation.measure failed" not in whole.output


def test_nothing_but_what_one_rank_writes_is_in_the_run_directory(folder):
    ours = {"callbacks/journal.jsonl", "callbacks/epochs.csv", "callbacks/run.json", "weights/restore-constant.pt"}
    kept = {f"weights/e{epoch}.pt" for epoch in EPOCHS}
    theirs = {"args.yaml", "results.csv", "weights/last.pt", "weights/best.pt"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == ours | kept | theirs


def test_run_json_lists_the_checkpoints_and_how_it_ended(folder):
    told = json.loads((folder / "callbacks" / "run.json").read_text())
    assert (told["status"], told["epochs"], told["stop"]["reason"]) == ("stopped", 6, "plateau")
    listed = {item["file"]: (item["bytes"], item["sha256"]) for item in told["checkpoints"]}
    assert listed == {file: fingerprint(folder / file) for file in listed}
    assert {path.name for path in (folder / "weights").iterdir()} == {
        "last.pt",
        "best.pt",
        *(file.removeprefix("weights/") for file in listed),
    }


def test_kept_checkpoints_are_those_of_their_epochs(folder):
    assert [YOLO(folder / "weights" / f"e{epoch}.pt").ckpt["epoch"] + 1 for epoch in EPOCHS] == EPOCHS


def test_the_parent_says_what_the_journal_says(whole, folder, journal):
    told = whole.answers[0]
    rows = pd.DataFrame([entry.to_row() for entry in journal.entries]).set_index("epoch")
    pd.testing.assert_frame_equal(told["history"], rows)
    assert told["history"].index.tolist() == EPOCHS
    assert told["decisions"] == journal.decisions
    assert sum(isinstance(decision, SetLearningRate) for decision in told["decisions"]) > len(EPOCHS) - 1
    assert told["stop_reason"] is StopReason.PLATEAU
    assert told["stop_message"] == journal.entries[-1].stop.message
    assert told["save_dir"] == folder


def test_the_model_in_the_parent_has_the_restored_weights(whole, folder):
    assert whole.answers[0]["checkpoint"] == str(folder / "weights" / "restore-constant.pt")


def test_a_reporter_that_fails_is_told_of_once_and_the_training_goes_on(whole):
    sentence = "BrokenReporter.act failed; training continues: RuntimeError: nobody reads this report"
    assert whole.output.count(sentence) == 2  # one a training


def test_the_next_training_of_the_model_starts_afresh(whole):
    told = whole.answers[1]
    assert told["save_dir"] == whole.folder / "again"
    assert told["history"].index.tolist() == [1, 2]
    assert told["history"]["EarlyStopping/wait"].tolist() == [0, 1]
    assert told["history"]["lr_factor"].tolist() == pytest.approx(FACTORS[:2])


def test_the_parent_knows_of_a_stop_that_came_from_elsewhere(whole):
    written = json.loads((whole.folder / "again" / "callbacks" / "run.json").read_text())
    assert written["stop"]["reason"] == "external"
    assert whole.answers[1]["stop_reason"] is StopReason.EXTERNAL


def test_the_parent_knows_its_run_when_the_model_is_gone(whole):
    assert whole.answers[2]["save_dir"] == whole.folder / "again"
    assert whole.answers[2]["history"].index.tolist() == [1, 2]
