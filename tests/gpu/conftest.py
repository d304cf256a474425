"""What only a GPU can show. Without `-m gpu` none of it runs; `make test-gpu` runs it, and fails where there is no GPU.

`YOLO_CB_GPU_DEVICE=cpu` walks through the same code where there is none. That shows that the tests work, no more.
"""

import gc
import os

import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY

DEVICE = os.environ.get("YOLO_CB_GPU_DEVICE", "0")


def pytest_report_header():
    return f"gpu tests on: {DEVICE if DEVICE == 'cpu' or not torch.cuda.is_available() else card()}"


def card():
    return torch.cuda.get_device_name(0)


@pytest.fixture(scope="session")
def device():
    if DEVICE != "cpu" and not torch.cuda.is_available():
        pytest.fail("there is no GPU: these tests are for machines with one (YOLO_CB_GPU_DEVICE=cpu tries them out)")
    return DEVICE


@pytest.fixture(scope="session")
def train(device, shapes, tmp_path_factory):
    """Return a function that trains with AMP, whatever is attached, and gives (model, attachment or None)."""

    def run(callbacks=None, *functions, model=None, **arguments):
        model = model or YOLO("yolo26n.yaml", verbose=False)
        attachment = None if callbacks is None else ycb.attach(model, callbacks)
        for event, function in functions:
            model.add_callback(event, function)
        model.callbacks["on_pretrain_routine_end"].insert(0, make_sure_of_a_scaler)
        settings = {
            **TINY,
            "batch": 2,
            "nbs": 2,
            "epochs": 4,
            "workers": 0,
            "close_mosaic": 0,
            "device": device,
            "amp": True,
        }
        if not arguments.get("resume"):
            settings |= {"data": str(shapes), "project": str(tmp_path_factory.mktemp("gpu"))}
        model.train(**{**settings, **arguments})
        return model, attachment

    return run


def make_sure_of_a_scaler(trainer):
    """On a GPU AMP has one; on the CPU, where Ultralytics uses none, it gets one."""
    if trainer.device.type == "cpu":
        trainer.scaler = torch.amp.GradScaler("cpu")
        if trainer.resume:
            trainer.scaler.load_state_dict(torch.load(trainer.args.resume, weights_only=False)["scaler"])
    assert trainer.scaler.is_enabled(), "AMP is off: Ultralytics' own check of it has failed on this card"


@pytest.fixture
def allocated(device):
    """Return a function that gives the bytes that tensors on the GPU take; 0 on the CPU, which nobody counts."""

    def measure():
        gc.collect()
        return 0 if device == "cpu" else torch.cuda.memory_allocated()

    return measure
