"""The optimizer steps of a resumed run, batch by batch, with the loop's own test in miniature."""

from types import SimpleNamespace

import pytest

from yolo_callbacks.trainer.patches.accumulation import NotYet, hold_steps, note_steps


def trainer(accumulate):
    made = SimpleNamespace(accumulate=accumulate, steps=[], batch=0)
    made.optimizer_step = lambda: made.steps.append(made.batch)
    made.preprocess_batch = lambda batch: batch
    return made


def loop(trainer, batches, last_step=-1, warm_up=None):
    """Do what Ultralytics' loop does: warm-up, the batch, and the step if it is due."""
    for batch in batches:
        trainer.batch = batch
        if warm_up is not None:
            trainer.accumulate = warm_up(batch)
        trainer.preprocess_batch({})
        if batch - last_step >= trainer.accumulate:
            trainer.optimizer_step()
            last_step = batch
    return last_step


@pytest.mark.parametrize("warm_up", [None, lambda batch: 1 + batch // 4])
@pytest.mark.parametrize("killed", range(1, 20))
def test_a_resumed_run_steps_where_it_would_have(killed, warm_up):
    alone, stopped, resumed = trainer(4), trainer(4), trainer(4)
    loop(alone, range(30), warm_up=warm_up)
    last = loop(stopped, range(killed), warm_up=warm_up)
    undo = [hold_steps(resumed, lambda accumulate: resumed.batch - last >= accumulate)]
    note = note_steps(resumed, lambda: undo.pop()() if undo else None)
    loop(resumed, range(killed, 30), warm_up=warm_up)
    assert stopped.steps + resumed.steps == alone.steps
    assert type(resumed.accumulate) is int
    note()
    assert not undo


def test_what_is_undone_leaves_the_trainer_as_it_was():
    made = trainer(4)
    own = made.optimizer_step, made.preprocess_batch
    undo_note, undo_hold = note_steps(made, list), hold_steps(made, lambda accumulate: False)
    made.preprocess_batch({})
    assert isinstance(made.accumulate, NotYet)
    undo_hold(), undo_note()
    assert (made.optimizer_step, made.preprocess_batch, type(made.accumulate)) == (*own, int)
