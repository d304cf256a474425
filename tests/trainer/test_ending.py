"""What a finish changes in a trainer: its last epoch, its patience, its mosaic and its pictures."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.core.decision import Finish
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.learning_rate import Anneal
from yolo_callbacks.trainer import ending as module
from yolo_callbacks.trainer.ending import Ending


class Loader:
    """A data loader of some batches that counts how often it was reset."""

    def __init__(self, batches=4):
        self.batches, self.resets = batches, 0

    def __len__(self):
        return self.batches

    def reset(self):
        self.resets += 1


class Trainer(SimpleNamespace):
    """What of a trainer has to do with its end."""

    def __init__(self, epochs=100, close_mosaic=10, **arguments):
        settings = {"lrf": 0.01, "cos_lr": False, "plots": True, **arguments}
        super().__init__(
            args=SimpleNamespace(close_mosaic=close_mosaic, **settings),
            epochs=epochs,
            epoch=0,
            stopper=SimpleNamespace(patience=20),
            train_loader=Loader(),
            plot_idx=[0, 1, 2],
            closed=[],
        )

    def _close_dataloader_mosaic(self):
        self.closed.append(self.epoch)


def finish(end=50, epoch=40, base_lr=0.005):
    return FinishState(Finish("", epoch, end_epoch=end, planned_epochs=100, base_lr=base_lr))


def finished(trainer, state=None):
    """Return the end of a trainer that a finish has brought forward."""
    ending = Ending(trainer)
    ending.apply(state or finish())
    return ending


@pytest.fixture(params=[False, True], ids=["mosaic closed once", "mosaic closed late, too"])
def closes_late(request, monkeypatch):
    """Be each kind of trainer: one that closes mosaic in one epoch alone, and one that makes up for it."""
    monkeypatch.setattr(module, "_closes_it_late", lambda: request.param)
    return request.param


def test_a_training_without_a_finish_is_left_alone():
    trainer = Trainer()
    ending = finished(trainer, FinishState())
    trainer.epoch = 95
    ending.begin_epoch()
    assert (trainer.epochs, trainer.stopper.patience, trainer.plot_idx, trainer.closed) == (100, 20, [0, 1, 2], [])
    assert ending.anneal is None


def test_a_finish_moves_the_end_and_suspends_the_trainers_patience():
    trainer = Trainer()
    ending = finished(trainer)
    assert (trainer.epochs, trainer.stopper.patience) == (50, math.inf)
    trainer.epochs = 80  # with `time`, the trainer plans again after every epoch
    ending.apply(finish())
    assert trainer.epochs == 50


@given(planned=st.integers(1, 200), end=st.integers(2, 200))
def test_a_finish_never_makes_a_run_longer(planned, end):
    trainer = Trainer(planned)
    ending = finished(trainer, finish(end, epoch=1))
    assert trainer.epochs == min(planned, end)
    ending.apply(finish(end, epoch=1))
    assert trainer.epochs == min(planned, end)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("base_lr", [0.005, None])
def test_the_learning_rate_falls_from_the_next_epoch_to_the_last(cosine, base_lr):
    ending = finished(Trainer(cos_lr=cosine, lrf=0.1), finish(base_lr=base_lr))
    assert ending.anneal == Anneal(start=40, last=49, first_lr=base_lr, final=0.1, cosine=cosine)


def test_the_learning_rate_falls_to_an_end_that_time_has_brought_forward_further():
    trainer = Trainer()
    ending = finished(trainer)
    trainer.epochs = 45
    assert ending.anneal.last == 44


# ------------------------------------------------------------------------------------ mosaic


def trained(trainer, ending, epochs):
    """Begin epochs, as the trainer counts them, and return those in which mosaic was closed by us."""
    for trainer.epoch in epochs:
        ending.begin_epoch()
    return trainer.closed


def test_the_trainer_itself_closes_mosaic_if_it_comes_to_the_closing_epoch(closes_late):
    trainer = Trainer()
    assert trained(trainer, finished(trainer), range(40, 50)) == []
    assert trainer.train_loader.resets == 0


def test_a_run_that_is_resumed_after_the_closing_epoch_has_mosaic_closed_once(closes_late):
    trainer = Trainer()
    assert trained(trainer, finished(trainer), range(43, 50)) == ([] if closes_late else [43])
    assert trainer.train_loader.resets == (0 if closes_late else 1)


def test_a_new_loader_has_its_mosaic_closed_again(closes_late):
    trainer = Trainer()
    ending = finished(trainer)
    trained(trainer, ending, range(40, 45))
    trainer.train_loader = Loader()  # after running out of memory
    assert trained(trainer, ending, [44, 45]) == ([] if closes_late else [44])
    assert trainer.train_loader.resets == (0 if closes_late else 1)


@pytest.mark.parametrize("close_mosaic", [0, None])
def test_mosaic_that_never_closes_stays_open(close_mosaic, closes_late):
    trainer = Trainer(close_mosaic=close_mosaic)
    assert trained(trainer, finished(trainer), range(40, 50)) == []
    assert trainer.plot_idx == [0, 1, 2]


def test_pictures_of_the_first_batches_without_mosaic_move_with_it_once():
    trainer = Trainer()
    trained(trainer, finished(trainer, finish(end=60)), range(40, 60))
    assert trainer.plot_idx == [0, 1, 2, 200, 201, 202]


def test_pictures_move_again_if_a_batch_has_become_smaller():
    trainer = Trainer()
    ending = finished(trainer)
    trained(trainer, ending, [40])
    trainer.train_loader = Loader(8)
    trained(trainer, ending, [40, 41])
    assert trainer.plot_idx == [0, 1, 2, 160, 161, 162, 320, 321, 322]


def test_a_training_without_plots_gets_no_pictures():
    trainer = Trainer(plots=False)
    trained(trainer, finished(trainer), range(40, 50))
    assert trainer.plot_idx == [0, 1, 2]


def test_whether_the_trainer_closes_it_late_is_read_from_its_loop(monkeypatch):
    from ultralytics.engine.trainer import BaseTrainer

    def keeps_track(self):
        mosaic_closed = True
        assert mosaic_closed

    monkeypatch.setattr(BaseTrainer, "_do_train", keeps_track)
    assert module._closes_it_late()
    monkeypatch.setattr(BaseTrainer, "_do_train", lambda self: None)
    assert not module._closes_it_late()


def test_the_trainer_is_let_go():
    ending = finished(Trainer())
    ending.begin_epoch()
    ending.release()
    assert ending._trainer is None
    assert ending._loader is None
