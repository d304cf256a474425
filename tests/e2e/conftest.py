"""Real trainings, as small as they can be: four pictures of 64 pixels, on the CPU."""

import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks.exports import process as export_process
from yolo_callbacks.pictures import drawing
from yolo_callbacks.session import exact_resume


@pytest.fixture(scope="package", autouse=True)
def plots_and_exports_begin_soon():
    """Let the processes that draw and export be programs of `tests.programs`, where there is a fork."""
    with pytest.MonkeyPatch.context() as patch:
        if programs.FORKS:
            for module in (drawing, export_process):
                patch.setattr(module, "subprocess", programs.Subprocess)
        yield


@pytest.fixture(scope="package", autouse=True)
def every_epoch_has_its_state():
    """Let trainings wait for the writing of their state, or it would depend on the machine which epochs have one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_resume, "_MOST_REPEATED", -1.0)
        yield


@pytest.fixture
def architecture():
    """The model that `train` trains; a file of tests in which the layers matter takes a real one."""
    return TINY_MODEL


@pytest.fixture
def train(shapes, architecture, tmp_path):
    """Return a function that trains the smallest model with callbacks, and returns the attachment."""

    def run(callbacks=None, *, model=None, before=None, **arguments):
        model = model or YOLO(architecture, verbose=False)
        attachment = ycb.attach(model, callbacks)
        if before is not None:
            before(model)
        settings = {**TINY, "data": str(shapes), "epochs": 3, "project": str(tmp_path), "name": "run"}
        model.train(**{**settings, **arguments})
        run.model = model
        return attachment

    return run
