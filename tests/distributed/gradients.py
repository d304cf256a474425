"""The callbacks of the training whose gradients are watched, in a module that every rank can import."""

import json

import torch
from ultralytics.utils import RANK

import yolo_callbacks as ycb
from yolo_callbacks import Callback


class ClipRecorder(Callback):
    """Writes down what PyTorch's own clipping says the norm was, on every rank."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_start(self, trainer):
        clip = torch.nn.utils.clip_grad_norm_

        def recorded(parameters, *args, **kwargs):
            norm = clip(parameters, *args, **kwargs)
            with open(self.folder / f"run-rank-{RANK}.jsonl", "a") as file:
                file.write(json.dumps({"epoch": trainer.epoch + 1, "norm": float(norm)}) + "\n")
            return norm

        torch.nn.utils.clip_grad_norm_ = recorded

    def teardown(self, trainer):
        with open(self.folder / f"run-rank-{RANK}.jsonl", "a") as file:
            file.write(json.dumps({"epoch": 0, "replaced": "optimizer_step" in vars(trainer)}) + "\n")


def watched(folder):
    monitors = [ycb.GradientMonitor(every_n_steps=1), ycb.ActivationMonitor(every_n_batches=1)]
    return [*monitors, ycb.SystemMonitor(), ycb.CSVLogger(), ClipRecorder(folder)]
