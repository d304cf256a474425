"""Which decisions are logged: those worth a line, unless the callback is told not to be verbose."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import yolo_callbacks as ycb
from tests.helpers import decisions_of, slower
from yolo_callbacks.session.main_rank import MainRank

WORSE = [0.5, 0.4, 0.3, 0.2]
RATES = {"base_lr": 0.01, "next_base_lr": 0.01}
CASES = [
    (ycb.EarlyStopping, {"patience": 2}),
    (ycb.ReduceLROnPlateau, {"patience": 2}),
    (ycb.LearningRateScheduler, {"schedule": slower}),
    (ycb.ModelCheckpoint, {}),
]


class UsersOwn(ycb.Callback):
    """Has no word about being verbose."""

    def decide(self, history):
        return ycb.SetLearningRate("slower now", history.epoch, factor=0.5)


def logged(callback, said):
    """Return what is logged of a callback's decisions, of which there are some."""
    decisions = [replace(decision, source="A") for decision in decisions_of(callback, WORSE, **RATES)]
    assert decisions
    carry_out(decisions, {"A": callback})
    return [text for _, text in said.lines if text.startswith("A: epoch ")]


def carry_out(decisions, callbacks):
    """Let rank 0 carry out decisions, with no disk below it."""
    files = SimpleNamespace(checkpoints=SimpleNamespace(keep=lambda decision: None), list_decisions=list)
    MainRank.carry_out(SimpleNamespace(_steps=SimpleNamespace(callbacks=callbacks), files=files), decisions)


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize(("cls", "arguments"), CASES)
def test_decisions_are_logged_where_the_callback_is_verbose(cls, arguments, verbose, said):
    assert bool(logged(cls(**arguments, verbose=verbose), said)) == bool(verbose)


def test_a_schedule_is_quiet_unless_asked(said):
    assert not logged(ycb.LearningRateScheduler(slower), said)


def test_those_of_a_users_own_callback_are_logged(said):
    assert logged(UsersOwn(), said) == [f"A: epoch {epoch}: slower now" for epoch in (1, 2, 3, 4)]


def test_what_comes_from_outside_is_logged(said):
    carry_out([ycb.Stop("the program asked for it", 1, source="Attachment.stop")], {})
    assert said.lines == [("INFO", "Attachment.stop: epoch 1: the program asked for it")]


@pytest.mark.parametrize("callback", [ycb.BackupAndRestore(), ycb.ModelCheckpoint(save_top_k=0, save_last=True)])
def test_copies_that_are_made_in_every_epoch_are_not_worth_a_line(callback, said):
    assert not logged(callback, said)
