"""Trainings on two ranks take long: each is done once, and many tests look at it."""

import functools

import pytest

from tests.distributed.callbacks import stop_again_in_epoch_2, undisturbed
from tests.distributed.launcher import ARGUMENTS, Launch


@pytest.fixture(scope="package")
def start(coco8, tmp_path_factory):
    """Return a function that starts trainings and does not wait for them; what is left of them is killed at last."""
    launches = []

    def begin(callbacks, *trainings, **facts):
        folder = tmp_path_factory.mktemp("launch")
        given = [{**ARGUMENTS, "data": str(coco8), "project": str(folder), **training} for training in trainings]
        launches.append(Launch(folder, functools.partial(callbacks, folder), given, **facts))
        return launches[-1]

    yield begin
    for launch in launches:
        launch.kill()


@pytest.fixture(scope="package")
def whole(start):
    """Two trainings of one model on two ranks; the first ends by itself, the second by a function of the user's."""
    stop = ("on_fit_epoch_end", stop_again_in_epoch_2)
    launch = start(undisturbed, {"name": "run", "verbose": True}, {"name": "again"}, functions=[stop]).wait()
    assert launch.returncode == 0, launch.output
    return launch
