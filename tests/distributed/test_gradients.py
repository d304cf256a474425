"""On two ranks the monitors look on one of them, at gradients that are the sum over both."""

import statistics

import pandas as pd
import pytest

from tests.distributed.gradients import watched

EPOCHS = 2


@pytest.fixture(scope="module")
def launch(start):
    launch = start(watched, {"name": "run", "epochs": EPOCHS}, model="yolo26n.yaml").wait()
    assert launch.returncode == 0, launch.output
    return launch


@pytest.fixture(scope="module")
def table(launch):
    return pd.read_csv(launch.folder / "run" / "callbacks" / "epochs.csv").set_index("epoch")


def norms(launch, rank, epoch):
    return [line["norm"] for line in launch.witness(rank) if line["epoch"] == epoch]


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
def test_norms_are_those_of_the_reduced_gradients(launch, table, epoch):
    expected = norms(launch, 0, epoch)
    assert len(expected) > 1
    assert norms(launch, 1, epoch) == expected
    assert table.loc[epoch, "gradients/norm"] == pytest.approx(statistics.mean(expected), rel=1e-5)
    assert table.loc[epoch, "gradients/norm_max"] == pytest.approx(max(expected), rel=1e-5)


def test_activations_are_measured_beside_them(table):
    assert table["activations/model.22/std"].gt(0).all()
    assert "activations/module.model.22/std" not in table


def test_times_and_memory_are_those_of_rank_0(table):
    times = [f"system/{name}_seconds" for name in ("data", "step", "validation", "save")]
    assert table[[*times, "system/rss_gb"]].gt(0).all(axis=None)
    assert (table[times].sum(axis="columns") < table["seconds"]).all()
    assert table["system/data_wait"].between(0, 1).all()


def test_nothing_is_left_behind_and_nobody_hangs(launch):
    assert not launch.left_behind
    for rank in (0, 1):
        assert [line["replaced"] for line in launch.witness(rank) if line["epoch"] == 0] == [False]
