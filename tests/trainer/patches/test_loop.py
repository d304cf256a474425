"""The last event after an exception, and a resumed run that had ended and goes straight to its end."""

from types import MethodType, SimpleNamespace

import pytest
from ultralytics.engine.trainer import BaseTrainer

from yolo_callbacks.trainer.patches import loop
from yolo_callbacks.trainer.patches.loop import SkipTraining, allow_skip_training, send_teardown_after_exceptions


def trainer_that(raises=None, **attributes):
    """Return a trainer whose loop raises an error, or ends, and that notes what it is asked for."""
    done = []

    def train(*args, **kwargs):
        done.append(("train", args, kwargs))
        if raises is not None:
            raise raises

    trainer = SimpleNamespace(
        _do_train=train,
        run_callbacks=done.append,
        final_eval=lambda: done.append(f"final_eval in epoch {trainer.epoch}"),
        plot_metrics=lambda: done.append("plot_metrics"),
        _load_checkpoint_state=lambda checkpoint: done.append(("loaded", checkpoint["epoch"])),
        args=SimpleNamespace(plots=False, close_mosaic=0, model="yolo"),
        model=SimpleNamespace(model=["head"]),
        resume=True,
        epochs=5,
        epoch=0,
        start_epoch=0,
        train_loader=None,
        test_loader=None,
        done=done,
    )
    trainer.resume_training = MethodType(BaseTrainer.resume_training, trainer)
    vars(trainer).update(attributes)
    return trainer


# ------------------------------------------------------------------------------------------------- teardown


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize(("newer", "events"), [(False, ["teardown"]), (True, [])])
def test_an_exception_ends_with_teardown_once(error, newer, events, monkeypatch):
    monkeypatch.setattr(loop, "ultralytics_is_at_least", lambda *version: newer and version == (8, 4, 177))
    trainer = trainer_that(error("mine"))
    send_teardown_after_exceptions(trainer)
    with pytest.raises(error, match="mine"):
        trainer._do_train(2, a=1)
    assert trainer.done == [("train", (2,), {"a": 1}), *events]


def test_a_training_without_an_exception_sends_it_itself(monkeypatch):
    monkeypatch.setattr(loop, "ultralytics_is_at_least", lambda *version: False)
    trainer = trainer_that()
    send_teardown_after_exceptions(trainer)
    trainer._do_train()
    assert trainer.done == [("train", (), {})]


# ------------------------------------------------------------------------------------------------- skipping


class Loader:
    def __init__(self, done):
        self._done = done

    def close(self):
        self._done.append("closed")


@pytest.mark.parametrize(("plots", "drawn"), [(True, ["plot_metrics"]), (False, [])])
def test_what_follows_the_loop_is_done_as_after_the_last_epoch(plots, drawn):
    trainer = trainer_that(SkipTraining(), start_epoch=4, test_loader=["has no close"])
    trainer.args.plots = plots
    trainer.train_loader = Loader(trainer.done)
    allow_skip_training(trainer)
    trainer._do_train()
    assert trainer.done[1:] == ["final_eval in epoch 3", *drawn, "on_train_end", "closed"]


def test_a_loop_that_is_not_skipped_is_as_before():
    trainer = trainer_that(epoch=2, start_epoch=4)
    allow_skip_training(trainer)
    trainer._do_train(2, a=1)
    assert (trainer.done, trainer.epoch) == ([("train", (2,), {"a": 1})], 2)


def test_another_exception_comes_out_and_nothing_follows():
    trainer = trainer_that(ValueError("mine"))
    allow_skip_training(trainer)
    with pytest.raises(ValueError, match="mine"):
        trainer._do_train()
    assert len(trainer.done) == 1


@pytest.mark.parametrize(
    ("epoch", "start"),
    [
        (2, 3),  # Ultralytics resumes it itself
        (4, 5),  # it has completed its 5 epochs
        (7, 8),  # of a run that once had more
    ],
)
def test_a_run_is_resumed_after_its_last_epoch_even_if_that_was_the_last_one_planned(epoch, start):
    trainer = trainer_that()
    allow_skip_training(trainer)
    trainer.resume_training({"epoch": epoch})
    assert trainer.start_epoch == start
    assert trainer.done.count(("loaded", epoch)) == 1


@pytest.mark.parametrize("checkpoint", [{"epoch": -1}, {}])
def test_a_stripped_checkpoint_is_refused_as_before(checkpoint):
    trainer = trainer_that()
    allow_skip_training(trainer)
    with pytest.raises(AssertionError):
        trainer.resume_training(checkpoint)
    assert (trainer.done, trainer.start_epoch) == ([], 0)


@pytest.mark.parametrize("checkpoint", [{"epoch": 2}, None])
def test_an_assertion_about_something_else_comes_out(checkpoint):
    def refuse(checkpoint):
        raise AssertionError("another one")

    trainer = trainer_that(resume_training=refuse)
    allow_skip_training(trainer)
    with pytest.raises(AssertionError, match="another one"):
        trainer.resume_training(checkpoint)
    assert (trainer.done, trainer.start_epoch) == ([], 0)
