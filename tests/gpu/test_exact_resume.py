"""An interrupted training on a GPU, with AMP, that is resumed exactly: as reproducible as two that are left alone."""

import pandas as pd
import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils.torch_utils import unwrap_model

import yolo_callbacks as ycb
from tests.exact import digest
from tests.helpers import crash_in
from yolo_callbacks.trainer.exact.random_state import generators, set_generators

pytestmark = pytest.mark.gpu

ARGUMENTS = {"epochs": 5, "optimizer": "AdamW", "nbs": 5, "warmup_epochs": 2, "close_mosaic": 1, "deterministic": True}


class End:
    """Notes what a training has learnt when its last epoch is done."""

    def __init__(self, workers):
        self.noted = {}
        self._workers = workers
        self.functions = ("on_pretrain_routine_start", self._set_workers), ("on_fit_epoch_end", self._note)

    def _set_workers(self, trainer):  # also where the GPU is a CPU, which gets none by itself
        trainer.args.workers = self._workers

    def _note(self, trainer):
        if trainer.epoch + 1 == trainer.epochs and trainer.validator.training:
            moments = trainer.optimizer.state_dict()["state"]
            self.noted = {
                "model": digest(unwrap_model(trainer.model).state_dict()),
                "EMA": digest(trainer.ema.ema.state_dict()),
                "optimizer": digest({f"{n}.{k}": v for n, state in moments.items() for k, v in state.items()}),
                "scaler": trainer.scaler.state_dict(),
                "updates": trainer.ema.updates,
            }


def results(folder):
    return pd.read_csv(folder / "results.csv", dtype=str).drop(columns="time")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_training_ends_as_two_that_were_left_alone(workers, train, said):
    ends = [End(workers) for _ in range(3)]
    folders = []
    for end in ends[:2]:
        model, _ = train(None, *end.functions, **ARGUMENTS)
        folders.append(model.trainer.save_dir)
    assert ends[0].noted == ends[1].noted, "two trainings that were left alone differ: nothing can be said here"

    kept = [ycb.BackupAndRestore(), ycb.CSVLogger()]
    stopped = []

    def remember(trainer):
        stopped.append(trainer.save_dir)

    with pytest.raises(KeyboardInterrupt):
        train(
            kept,
            *ends[2].functions,
            ("on_train_start", remember),
            ("on_train_batch_end", crash_in(4, KeyboardInterrupt)),
            **ARGUMENTS,
        )
    model = YOLO(ycb.newest_checkpoint(stopped[0]))
    train(kept, *ends[2].functions, model=model, resume=True, close_mosaic=ARGUMENTS["close_mosaic"])
    assert said("Resuming exactly, after epoch 3")
    assert ends[2].noted == ends[0].noted
    pd.testing.assert_frame_equal(results(stopped[0]), results(folders[0]), check_exact=True)


def test_the_generator_of_the_card_is_saved_and_set(device):
    card = torch.device("cpu" if device == "cpu" else f"cuda:{device}")
    saved = generators(card)
    drawn = torch.rand(3, device=card)
    assert ("cuda" in saved) == (device != "cpu")
    set_generators(saved, card)
    assert torch.equal(torch.rand(3, device=card), drawn)
