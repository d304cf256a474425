"""Two ranks on one card, and on two where there are two, under Ultralytics' own launcher."""

import functools
import json

import pytest
import torch
from ultralytics.models.yolo.detect import DetectionTrainer

from tests.distributed.callbacks import undisturbed
from tests.distributed.launcher import ARGUMENTS, Launch
from tests.distributed.test_two_ranks import EPOCHS, FACTORS
from tests.gpu.trainers import OneCardTrainer
from yolo_callbacks import StopReason

pytestmark = pytest.mark.gpu

CARDS = ["one card", "two cards"][: max(1, torch.cuda.device_count())]


@pytest.fixture(scope="module", params=CARDS)
def launch(request, device, shapes, tmp_path_factory):
    folder, one = tmp_path_factory.mktemp("launch"), request.param == "one card"
    facts = {"trainer": OneCardTrainer if one else DetectionTrainer}
    training = {**ARGUMENTS, "data": str(shapes), "project": str(folder), "name": "run", "amp": True}
    training |= {"device": device if one else [0, 1]}
    launch = Launch(folder, functools.partial(undisturbed, folder), [training], **facts)
    try:
        launch.wait()
        assert launch.returncode == 0, launch.output
        yield launch
    finally:
        launch.kill()


def seen(launch, rank, what):
    return [(line["epoch"], line[what]) for line in launch.witness(rank) if what in line]


@pytest.mark.parametrize("what", ["rates", "weights", "done"])
def test_both_ranks_do_the_same(what, launch):
    first, second = seen(launch, 0, what), seen(launch, 1, what)
    assert first == second
    assert sorted({epoch for epoch, _ in first}) == EPOCHS


def test_weights_change_and_rates_are_those_that_were_decided(launch):
    assert len({digest for _, digest in seen(launch, 0, "weights")}) == len(EPOCHS)
    (told, _) = launch.answers
    assert told["stop_reason"] is StopReason.PLATEAU
    assert told["history"]["lr_factor"].tolist() == pytest.approx(FACTORS)


def test_one_rank_writes_and_nobody_is_left_behind(launch):
    lines = (launch.folder / "run" / "callbacks" / "journal.jsonl").read_text().splitlines()
    assert [line["record"]["epoch"] for line in map(json.loads, lines) if "record" in line] == EPOCHS
    assert not launch.left_behind
