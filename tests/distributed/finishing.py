"""The callbacks of a training on two ranks that finishes early."""

import json

from ultralytics.utils import RANK

import yolo_callbacks as ycb
from tests.helpers import constant
from yolo_callbacks import Callback


class Witness(Callback):
    """Writes down what its rank has in each epoch; dies on every rank in one, where asked to."""

    def __init__(self, folder, dies_in):
        self.folder = folder
        self.dies_in = dies_in

    def on_train_batch_end(self, trainer):
        if trainer.epoch + 1 == self.dies_in:
            raise RuntimeError("deliberate error")

    def on_train_epoch_end(self, trainer):
        mosaic = trainer.train_loader.dataset.transforms.transforms[0].transforms[0]
        facts = {
            "epoch": trainer.epoch + 1,
            "planned": trainer.epochs,
            "rates": [group["lr"] for group in trainer.optimizer.param_groups],
            "mosaic": mosaic.p > 0,
        }
        with open(self.folder / f"run-rank-{RANK}.jsonl", "a") as file:
            file.write(json.dumps(facts) + "\n")


def finishing(folder, dies_in=None):
    rule = ycb.EarlyStopping(constant, mode="max", patience=2, on_plateau="finish", finish_epochs=3)
    return [rule, Witness(folder, dies_in), ycb.CSVLogger()]
