"""Which of the two resumes it is, exact or from the weights, and what is said of it."""

import shutil
import signal

import pandas as pd
import pytest
import torch
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, crash_in, journal_records
from yolo_callbacks.trainer.exact.training_state import TrainingState

ARGUMENTS = {**TINY, "epochs": 5, "optimizer": "AdamW", "close_mosaic": 1}
STOP = "on_train_batch_start", crash_in(4, KeyboardInterrupt)
EXACTLY = "Resuming exactly, after epoch {}: the numbers are those of an uninterrupted run"


def callbacks(**options):
    return [ycb.BackupAndRestore(**options), ycb.CSVLogger()]


def train(shapes, folder, *listeners, given=None, **arguments):
    model = YOLO(TINY_MODEL, verbose=False)
    ycb.attach(model, callbacks() if given is None else given)
    for event, function in listeners:
        model.add_callback(event, function)
    settings = {**ARGUMENTS, "data": str(shapes), "project": str(folder), "name": "run", **arguments}
    model.train(**settings)
    return model.trainer


@pytest.fixture(scope="module")
def warm(shapes, tmp_path_factory):
    """The first training of a process imports what draws random numbers, in older versions of Ultralytics."""
    train(shapes, tmp_path_factory.mktemp("warm"), given=[], epochs=1)


@pytest.fixture(scope="module")
def whole(warm, shapes, tmp_path_factory):
    """The results of a run that was left alone, by plain Ultralytics."""
    folder = tmp_path_factory.mktemp("whole")
    train(shapes, folder, given=[])
    return rows(folder / "run")


@pytest.fixture(scope="module")
def interrupted(warm, shapes, tmp_path_factory):
    """A run that was interrupted in its fourth epoch, with a checkpoint of each epoch."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(KeyboardInterrupt):
        train(shapes, folder, ("on_train_batch_start", crash_in(4, KeyboardInterrupt)), save_period=1)
    return folder / "run"


@pytest.fixture
def run(interrupted, tmp_path):
    return shutil.copytree(interrupted, tmp_path / "run")


def rows(run):
    return pd.read_csv(run / "results.csv", dtype=str).drop(columns="time").values.tolist()


def resume(run, checkpoint=None, *listeners, given=None, **arguments):
    model = YOLO(checkpoint or ycb.newest_checkpoint(run))
    attached = ycb.attach(model, callbacks() if given is None else given)
    for event, function in listeners:
        model.callbacks[event].insert(0, function)
    model.train(resume=True, save_dir=str(run), **arguments)
    return attached


def states(run):
    return sorted(path.name for path in (run / "weights").rglob("*.state"))


def test_an_interrupted_run_keeps_one_state_and_a_finished_one_none(run, whole, said):
    assert states(run) == ["epoch3-rank0of1.state"]
    resume(run)
    assert said("Resuming") == [*said("Resuming training"), EXACTLY.format(3)]
    assert rows(run) == whole
    assert not (run / "weights" / "states").exists()


def test_a_checkpoint_that_was_lost_takes_nothing_from_an_exact_resume(run, whole, said):
    (run / "weights" / "last.pt").write_bytes(b"torn")
    (run / "weights" / "epoch1.pt").replace(run / "weights" / "backup.pt")
    for name in ("epoch0.pt", "epoch2.pt"):
        (run / "weights" / name).unlink()
    resume(run)
    assert said(EXACTLY.format(3) + " (backup.pt is of epoch 2, and not needed)")
    assert rows(run) == whole


def test_a_state_that_is_one_epoch_older_is_gone_on_from(run, whole, said):
    with pytest.raises(KeyboardInterrupt):
        resume(run, None, ("on_model_save", crash_in(4, KeyboardInterrupt)))
    assert [record["epoch"] for record in journal_records(run)] == [1, 2, 3]
    assert states(run) == ["epoch3-rank0of1.state"]
    resume(run)
    assert said(EXACTLY.format(3) + " (last.pt is of epoch 4, which runs again)")
    assert rows(run) == whole
    assert not list(run.rglob("*.old"))
    assert not list(run.rglob("journal.1.jsonl"))


def remove(run):
    shutil.rmtree(run / "weights" / "states")
    return {}


def damage(run):
    (path,) = (run / "weights" / "states").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    return {}


def from_the_future(run):
    (path,) = (run / "weights" / "states").iterdir()
    torch.save({**torch.load(path, weights_only=True), "format": 2}, path)
    return {}


def of_another_program(run):
    (path,) = (run / "weights" / "states").iterdir()
    torch.save({"format": 1, "epoch": 3}, path)
    return {}


def forget_the_journal(run):
    (run / "callbacks" / "journal.jsonl").unlink()
    return {}


def smaller_batch(run):
    return {"batch": 2}


WHY_NOT = {
    "no training state was saved with it": remove,
    "epoch3-rank0of1.state is damaged": damage,
    "epoch3-rank0of1.state has format 2, this version reads up to 1: update yolo-callbacks": from_the_future,
    "the saved state lacks something (KeyError('every'))": of_another_program,
    "the journal does not have epoch 3 as the saved state has it": forget_the_journal,
    "batch: 2 instead of 4": smaller_batch,
}


@pytest.mark.parametrize("why", WHY_NOT)
def test_a_run_that_cannot_be_resumed_exactly_goes_on_from_its_weights_and_says_why(why, run, said):
    arguments = WHY_NOT[why](run)
    begun = []

    def begin(trainer):
        begun.append(trainer.epoch + 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(run, None, ("on_train_batch_start", begin), **arguments)
    (line,) = said("because")
    assert line == (
        "Resuming from the weights of last.pt, after epoch 3: the numbers will differ from those of an uninterrupted "
        f"run, because {why}"
    )
    assert begun == [4]


def test_everything_that_has_changed_is_named(run, said, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    listener = "on_pretrain_routine_start", lambda trainer: setattr(trainer.args, "hsv_h", 0.5)
    with pytest.raises(KeyboardInterrupt):
        resume(run, None, listener, STOP)
    (line,) = said("because")
    assert "device: cpu (" in line
    assert "7 threads) instead of cpu (" in line
    assert "argument hsv_h: 0.5 instead of 0.015" in line


def test_an_older_checkpoint_that_was_chosen_is_gone_on_from_as_it_is(run, said):
    attached = resume(run, run / "weights" / "epoch1.pt")
    assert said("Resuming from the weights of epoch1.pt, after epoch 2: ")[0].endswith("the saved state is of epoch 3")
    assert attached.history.index.tolist() == [1, 2, 3, 4, 5]


def test_a_run_without_states_says_nothing_of_them(run, said):
    resume(run, given=callbacks(exact=False))
    assert not said("Resuming from")
    assert not said("Resuming exactly")


def test_a_state_of_another_course_of_the_run_is_not_used(run, said):
    """Gone back to epoch 2 without states, interrupted again, and then resumed with them."""
    listener = "on_train_batch_start", crash_in(4, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        resume(run, run / "weights" / "epoch1.pt", listener, given=callbacks(exact=False))
    assert states(run) == ["epoch3-rank0of1.state"]
    resume(run)
    assert said("the journal does not have epoch 3 as the saved state has it")


def test_a_signal_goes_on_from_the_beginning_of_its_epoch(shapes, tmp_path, whole, said):
    sent = []

    def tell(trainer):
        if trainer.epoch == 2 and not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGTERM)

    given = [*callbacks(), ycb.PreemptionHandler()]
    with pytest.raises(SystemExit):
        train(shapes, tmp_path, ("on_train_batch_end", tell), given=given)
    assert ycb.newest_checkpoint(tmp_path / "run").name == "preempted.pt"
    resume(tmp_path / "run", given=given)
    assert said(EXACTLY.format(2))
    assert rows(tmp_path / "run") == whole


def test_a_run_that_was_stopped_from_outside_is_resumed_exactly(shapes, tmp_path, whole, said):
    class StopIn(ycb.Callback):
        def act(self, session):
            if session.history.epoch == 2:
                session.request_stop(ycb.Stop("enough", reason=ycb.StopReason.REQUESTED))

    train(shapes, tmp_path, given=[*callbacks(), StopIn()])
    assert states(tmp_path / "run") == ["epoch3-rank0of1.state"]
    resume(tmp_path / "run")
    assert said(EXACTLY.format(3))
    assert rows(tmp_path / "run") == whole


def test_what_can_never_be_exact_is_said_at_the_start(shapes, tmp_path, said):
    train(shapes, tmp_path, time=0.0005)
    assert said("If this run is interrupted, its resume will not be exact: time= plans by the clock")
    assert not (tmp_path / "run" / "weights" / "states").exists()


def test_the_trainer_and_its_loaders_are_left_as_they_were(shapes, tmp_path):
    trainer = train(shapes, tmp_path, epochs=2)
    assert not {"optimizer_step", "preprocess_batch"} & vars(trainer).keys()
    for loader in (trainer.train_loader, trainer.test_loader):
        assert not {"_get_iterator", "reset"} & vars(loader).keys()
        assert type(loader.batch_sampler.sampler.sampler).__module__.startswith("torch.")
        assert type(loader.iterator).__module__.startswith("torch.")


def test_a_loader_that_something_else_reads_from_is_noticed(shapes, tmp_path, said):
    def read(trainer):
        next(iter(trainer.test_loader))

    train(shapes, tmp_path, ("on_train_epoch_end", read), batch=1)
    assert len(said("The training state of epoch 1 is not saved: the epoch ended before its last batch, or")) == 1
    assert not states(tmp_path / "run")


@pytest.mark.parametrize("step", ["obstacles", "capture"])
def test_a_trainer_that_lacks_something_is_trained_all_the_same(step, shapes, tmp_path, said, monkeypatch):
    def fail(state):
        raise AttributeError("no attribute 'stopper'")

    monkeypatch.setattr(TrainingState, step, fail)
    train(shapes, tmp_path, epochs=3)
    why = "If this run is interrupted, its resume will not be exact: AttributeError: no attribute 'stopper'"
    assert len(said(why)) == 1
    assert len(rows(tmp_path / "run")) == 3
