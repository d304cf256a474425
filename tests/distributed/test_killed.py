"""Two ranks that are killed in the middle of an epoch, and a training that goes on as if they had not been."""

import functools
import shutil

import pandas as pd
import pytest

from tests.distributed.callbacks import standing_still, undisturbed
from tests.distributed.cpu_trainer import CPUTrainer
from yolo_callbacks import StopReason
from yolo_callbacks.run_dir.journal import read_journal

EXACT = ["lr/pg0", "lr/pg1", "lr/pg2", "lr_factor", "validated", "EarlyStopping/wait", "event"]


@pytest.fixture(scope="module")
def killed(start):
    launch = start(functools.partial(standing_still, epoch=4), {"name": "run"})
    launch.wait_for("still-0", "still-1")
    launch.kill()
    for file in ("callbacks/.epochs.csv.tmp", "weights/.e3.pt.abc.tmp"):  # had they just been written
        (launch.folder / "run" / file).touch()
    shutil.copytree(launch.folder / "run", launch.folder / "as-it-was")
    return launch


@pytest.fixture(scope="module", params=[2, 1], ids=["two ranks", "one rank"])
def resumed(request, start, killed):
    """What the killed run becomes when it is resumed, on as many ranks as before or on one."""
    run = killed.folder / "run"
    shutil.rmtree(run)
    shutil.copytree(killed.folder / "as-it-was", run)
    trainer = CPUTrainer if request.param == 2 else None
    launch = start(undisturbed, model=run / "weights" / "last.pt", trainer=trainer, resume=True).wait()
    assert launch.returncode == 0, launch.output
    return launch, run, request.param


def test_the_killed_run_has_the_epochs_that_it_finished(killed):
    journal = read_journal(killed.folder / "as-it-was" / "callbacks" / "journal.jsonl")
    assert [entry.record.epoch for entry in journal.entries] == [1, 2, 3]
    assert not killed.processes()


def test_a_resumed_run_decides_as_if_it_had_never_been_killed(resumed, whole):
    launch, run, _ = resumed
    told, expected = launch.answers[0], whole.answers[0]
    assert told["history"].index.tolist() == [1, 2, 3, 4, 5, 6]
    for column in EXACT:
        assert told["history"][column].tolist() == expected["history"][column].tolist(), column
    assert told["decisions"] == expected["decisions"]
    assert told["stop_reason"] is StopReason.PLATEAU
    assert told["save_dir"] == run


def test_every_rank_of_a_resumed_run_takes_up_the_learning_rate(resumed, whole):
    launch, _, ranks = resumed
    for rank in range(ranks) if ranks > 1 else [-1]:
        rates = [line for line in launch.witness(rank) if "rates" in line]
        assert rates == [line for line in whole.witness(0) if "rates" in line and line["epoch"] > 3]


def test_a_resumed_run_leaves_the_files_of_an_undisturbed_one(resumed, whole):
    _, run, _ = resumed
    files, expected = (
        {path.relative_to(folder) for path in folder.rglob("*")} for folder in (run, whole.folder / "run")
    )
    assert files == expected
    assert pd.read_csv(run / "callbacks" / "epochs.csv")["epoch"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_resumed_on_as_many_ranks_learns_the_same(resumed, whole):
    launch, run, ranks = resumed
    said = [line for line in launch.output.splitlines() if "Resuming exactly" in line or "Resuming from" in line]
    if ranks == 1:
        assert len(said) == 1
        assert "because ranks: 1 instead of 2" in said[0]
        return
    assert [line[line.index("Resuming") :] for line in said] == [
        "Resuming exactly, after epoch 3: the numbers are those of an uninterrupted run"
    ]
    for rank in (0, 1):
        weights = [line for line in launch.witness(rank) if "weights" in line]
        assert weights == [line for line in whole.witness(rank) if "weights" in line and line["epoch"] > 3]
    frames = [pd.read_csv(folder / "results.csv").drop(columns="time") for folder in (run, whole.folder / "run")]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
