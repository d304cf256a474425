"""Trainings on two ranks take long: each is done once, and many tests look at it."""

import functools

import pytest

from tests.distributed.callbacks import LikeMLflow, reported, stop_again_in_epoch_2, undisturbed
from tests.distributed.launcher import ARGUMENTS, Launch
from tests.platform_server import KEY, Platform


@pytest.fixture(scope="package")
def start(shapes, tmp_path_factory):
    """Return a function that starts trainings and does not wait for them; what is left of them is killed at last."""
    launches = []

    def begin(callbacks, *trainings, **facts):
        folder = tmp_path_factory.mktemp("launch")
        given = [{**ARGUMENTS, "data": str(shapes), "project": str(folder), **training} for training in trainings]
        launches.append(Launch(folder, functools.partial(callbacks, folder), given, **facts))
        return launches[-1]

    yield begin
    for launch in launches:
        launch.kill()


@pytest.fixture(scope="package")
def whole(start):
    """Two trainings of one model on two ranks; the first ends by itself, the second by a function of the user's.

    In both, an integration raises on rank 1 after every epoch.
    """
    functions = [("on_fit_epoch_end", function) for function in (stop_again_in_epoch_2, LikeMLflow())]
    trainings = {"name": "run", "verbose": True}, {"name": "again"}
    launch = start(undisturbed, *trainings, functions=functions).wait()
    assert launch.returncode == 0, launch.output
    return launch


@pytest.fixture(scope="package")
def cancelled(start):
    """A training on two ranks that the Platform cancels, after one rank has held up the other for 8 s."""

    def cancel(platform, request):
        return {"cancelled": request["data"]["epoch"] >= 1}

    platform = Platform({("run", "epoch_end"): cancel})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ULTRALYTICS_PLATFORM_URL", platform.url)
        patch.setenv("ULTRALYTICS_API_KEY", KEY)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        launch = start(reported, {"name": "run", "epochs": 200, "verbose": True}).wait()
    platform.close()
    assert launch.returncode == 0, launch.output
    launch.platform = platform
    return launch
