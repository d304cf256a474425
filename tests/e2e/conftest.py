"""Real trainings, as small as they can be: four pictures of 64 pixels, on the CPU."""

import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY


@pytest.fixture
def train(coco8, tmp_path):
    """Return a function that trains YOLO26n from scratch with callbacks, and returns the attachment."""

    def run(callbacks=None, *, model=None, before=None, **arguments):
        model = model or YOLO("yolo26n.yaml", verbose=False)
        attachment = ycb.attach(model, callbacks)
        if before is not None:
            before(model)
        settings = {**TINY, "data": str(coco8), "epochs": 3, "project": str(tmp_path), "name": "run"}
        model.train(**{**settings, **arguments})
        run.model = model
        return attachment

    return run
