"""The callbacks of these trainings, in a module that every rank can import."""

import hashlib
import json
import threading
import time

from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests.helpers import constant, slower, wait_for
from yolo_callbacks import Callback, Priority


def controllers():
    return [
        ycb.EarlyStopping(monitor=constant, mode="max", patience=5, restore_best_weights=True),
        ycb.ReduceLROnPlateau(monitor=constant, mode="max", patience=2, factor=0.5),
        ycb.LearningRateScheduler(slower),
        ycb.ModelCheckpoint("e{epoch}", save_best_only=False),
        ycb.CSVLogger(),
    ]


class Witness(Callback):
    """Writes down what its rank sees, in a file of its own for each training."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer):
        self._write(trainer, rates=[group["lr"] for group in trainer.optimizer.param_groups])

    def on_train_epoch_end(self, trainer):
        digest = hashlib.sha256()
        # not the state dict: each rank has batch norm statistics of its own
        for weights in unwrap_model(trainer.model).parameters():
            digest.update(weights.detach().cpu().numpy().tobytes())
        self._write(trainer, weights=digest.hexdigest())

    def on_fit_epoch_end(self, trainer):
        self._write(trainer, done=True)

    def _write(self, trainer, **facts):
        with open(self.folder / f"{trainer.args.name}-rank-{RANK}.jsonl", "a") as file:
            file.write(json.dumps({"epoch": trainer.epoch + 1, **facts}) + "\n")


class SleepsOnce(Callback):
    """Holds one rank up before the second batch of the first epoch."""

    def __init__(self, rank, seconds):
        self.rank = rank
        self.seconds = seconds
        self.batches = 0

    def on_train_batch_start(self, trainer):
        self.batches += 1
        if (RANK, self.batches) == (self.rank, 2):
            time.sleep(self.seconds)


def reported(folder):
    watchdog = ycb.Watchdog(3.0, slow_seconds=200, heartbeat_seconds=0.2)
    sleeps = SleepsOnce(rank=1, seconds=8)
    return [ycb.PlatformLogger(["lr_factor"]), ycb.CSVLogger(), Witness(folder), watchdog, sleeps]


class BrokenReporter(Callback):
    priority = Priority.REPORT

    def act(self, session):
        raise RuntimeError("nobody reads this report")


class StandStill(Callback):
    """Stops the clock on every rank in the middle of an epoch, when the state of the one before is saved."""

    def __init__(self, folder, epoch):
        self.folder = folder
        self.epoch = epoch

    def on_train_batch_end(self, trainer):
        if trainer.epoch + 1 == self.epoch:
            state = trainer.save_dir / "weights" / "states" / f"epoch{self.epoch - 1}-rank{RANK}of2.state"
            wait_for(state.exists)
            (self.folder / f"still-{RANK}").touch()
            time.sleep(600)


class Dawdles(Callback):
    """Takes as long for a batch as the test wants, and reacts to signals meanwhile."""

    def __init__(self, folder, epoch):
        self.folder = folder
        self.epoch = epoch

    def on_train_batch_start(self, trainer):
        if trainer.epoch + 1 == self.epoch:
            (self.folder / f"dawdles-{RANK}").touch()
            while not (self.folder / "go-on").exists():
                time.sleep(0.01)


class Fails(Callback):
    """Raises on one rank, in one place, in epoch 2."""

    priority = Priority.DECIDE

    def __init__(self, folder, rank, where):
        self.folder = folder
        self.rank = rank
        self.where = where

    def decide(self, history):
        self._fail("decide", history.epoch)

    def on_train_epoch_start(self, trainer):
        self._fail("on_train_epoch_start", trainer.epoch + 1)

    def on_train_batch_end(self, trainer):
        self._fail("on_train_batch_end", trainer.epoch + 1)

    def on_fit_epoch_end(self, trainer):
        self._fail("on_fit_epoch_end", trainer.epoch + 1)

    def _fail(self, where, epoch):
        if (where, RANK, epoch) == (self.where, self.rank, 2):
            (self.folder / "failed-at").write_text(str(time.time()))
            raise RuntimeError(f"deliberate error on rank {RANK}")


class LikeMLflow:
    """One of Ultralytics' own integrations, by its module: it reads metrics on every rank, and one rank has some."""

    def __init__(self):
        self.__module__ = "ultralytics.utils.callbacks.mlflow"

    def __call__(self, trainer):
        dict(trainer.metrics)


def stop_again_in_epoch_2(trainer):
    trainer.stop = trainer.stop or (trainer.args.name, trainer.epoch) == ("again", 1)


class HoldsALock(Callback):
    def __init__(self):
        self.lock = threading.Lock()


def undisturbed(folder):
    extra = ycb.ExtraValidation(split="train", every=4)
    return [extra, *controllers(), ycb.BackupAndRestore(), Witness(folder), BrokenReporter()]


def standing_still(folder, epoch):
    return [*controllers(), ycb.BackupAndRestore(), Witness(folder), StandStill(folder, epoch)]


def preemptible(folder):
    return [ycb.PreemptionHandler(), ycb.CSVLogger(), Dawdles(folder, epoch=2)]


def failing(folder, rank, where):
    return [Fails(folder, rank, where), Witness(folder), ycb.CSVLogger()]


def unpicklable(folder):
    return [ycb.CSVLogger(), HoldsALock()]


def missing_metric(folder):
    return [ycb.EarlyStopping(monitor="metrics/mAP50(M)"), Witness(folder)]
