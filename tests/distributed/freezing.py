"""The callbacks of a training on two ranks whose backbone is frozen at first."""

import hashlib
import json

import torch
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from yolo_callbacks import Callback


class Witness(Callback):
    """Writes down the weights and rates of its rank after each epoch's batches, the backbone's apart."""

    def __init__(self, folder):
        self.folder = folder

    _validated = None  # whether the epoch before was

    def on_val_start(self, validator):
        self._validated = True

    def on_train_epoch_start(self, trainer):
        if trainer.epoch:
            self._hook.remove()
        self._hook = trainer.optimizer.register_step_pre_hook(self._note)  # the last one: it sees what the step will

    def _note(self, optimizer, *_):
        self._newest = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}

    def on_train_epoch_end(self, trainer):
        model = unwrap_model(trainer.model)
        digests = {True: hashlib.sha256(), False: hashlib.sha256()}
        rates = {True: set(), False: set()}
        for name, weights in model.named_parameters():
            inside = int(name.split(".")[1]) < 11
            digests[inside].update(weights.detach().numpy().tobytes())
            rates[inside].add(self._newest[weights])
        statistics = torch.cat([b.flatten() for n, b in model.named_buffers() if int(n.split(".")[1]) < 11])
        facts = {
            "epoch": trainer.epoch + 1,
            "validated": self._validated,
            "backbone": digests[True].hexdigest(),
            "rest": digests[False].hexdigest(),
            "rate": max(rates[True]) / max(rates[False]),
            "statistics": hashlib.sha256(statistics.numpy().tobytes()).hexdigest(),
        }
        self._validated = False
        with open(self.folder / f"run-rank-{RANK}.jsonl", "a") as file:
            file.write(json.dumps(facts) + "\n")


def frozen_at_first(folder):
    schedule = ycb.ValidationSchedule(9, always_last=1)  # each rank must leave out the same epochs, or they would hang
    return [ycb.FreezeBackbone(2, lr_factor=0.5, lr_ramp_epochs=1), schedule, Witness(folder), ycb.CSVLogger()]
