import copy
import json
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from ultralytics import YOLO
from ultralytics.utils import dist

import yolo_callbacks as ycb
from tests.helpers import TINY_MODEL, attachment_of
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.run_dir.journal import Journal
from yolo_callbacks.session.hook import Hook


@pytest.fixture(scope="module")
def built():
    return YOLO(TINY_MODEL, verbose=False)


@pytest.fixture
def model(built):
    """A model that nobody has attached to; of the built one it shares only the network, which no test here changes."""
    model = copy.copy(built)
    model.callbacks = copy.deepcopy(built.callbacks)
    return model


def ours(model):
    return {event: [f for f in functions if isinstance(f, Hook)] for event, functions in model.callbacks.items()}


def launching_trainer(model, folder, *, verbose=True):
    """Return what a process that launches one worker per GPU has of a trainer."""
    return SimpleNamespace(
        ddp=True,
        save_dir=str(folder),
        best=folder / "weights" / "best.pt",
        args=SimpleNamespace(verbose=verbose),
        callbacks=dict(model.callbacks),
        model=None,
    )


def generate_ddp_file(trainer):
    """Write the program of the workers, as Ultralytics does when it launches them, and remove it."""
    file = dist.generate_ddp_file(trainer)
    dist.ddp_cleanup(trainer, file)


def test_attaching_twice_replaces(model):
    ycb.attach(model, [ycb.CSVLogger()])
    second = ycb.attach(model, [ycb.EarlyStopping()])
    registered = [hooks for hooks in ours(model).values() if hooks]
    assert registered
    assert all(len(hooks) == 1 and hooks[0].receive.__self__ is second for hooks in registered)


def test_detach_removes_ours_and_nothing_else(model):
    model.add_callback("on_fit_epoch_end", print)
    own = {event: list(functions) for event, functions in model.callbacks.items()}
    assert own["on_fit_epoch_end"][-1] is print
    ycb.detach(model)  # nothing there: nothing happens
    assert model.callbacks == own
    ycb.attach(model)
    assert model.callbacks != own
    ycb.detach(model)
    assert model.callbacks == own


def test_without_a_training_there_is_nothing_to_read(model):
    run = ycb.attach(model)
    assert (len(run.history), run.decisions, run.stop_reason, run.stop_message, run.save_dir) == (
        0,
        [],
        None,
        None,
        None,
    )
    assert run.stop() is False
    assert repr(run) == "Attachment(EarlyStopping, ReduceLROnPlateau, ModelCheckpoint, CSVLogger, PlotLogger)"


@pytest.mark.parametrize("wrong", ["yolo26n.pt", None, 5, YOLO, object()])
def test_a_wrong_thing_to_attach_to(wrong):
    with pytest.raises(TypeError, match=r"cannot attach to .*: it must be an Ultralytics model such as YOLO"):
        ycb.attach(wrong)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([print], "is not a Callback; register a plain function with model.add_callback"),
        ([ycb.EarlyStopping], r"is not a Callback: write EarlyStopping\(\)"),
        (7, "must be a list of callbacks"),
        (ycb.EarlyStopping, r"must be a list of callbacks, .*: write EarlyStopping\(\)"),
        (["CSVLogger"], "is not a Callback"),
    ],
)
def test_a_wrong_list_of_callbacks(model, callbacks, message):
    with pytest.raises(TypeError, match=message):
        ycb.attach(model, callbacks)


def test_a_single_callback_needs_no_list(model):
    stopping = ycb.EarlyStopping()
    assert ycb.attach(model, stopping).callbacks == (stopping,)


class Misspelt(ycb.Callback):
    def on_val_epoch_end(self, trainer):
        pass


def test_a_misspelt_event(model):
    with pytest.raises(ValueError, match=r"Misspelt.on_val_epoch_end is not an event of Ultralytics \(did you mean"):
        ycb.attach(model, [Misspelt()])
    assert not any(ours(model).values())


@pytest.mark.parametrize(
    "pair",
    [
        (ycb.CSVLogger(), ycb.CSVLogger(separator=";")),
        (ycb.PlotLogger("a.png"), ycb.PlotLogger("a.png")),
        (ycb.ModelCheckpoint(), ycb.ModelCheckpoint(monitor="fitness", save_weights_only=True)),
        (ycb.ModelCheckpoint("{epoch:03d}"), ycb.ModelCheckpoint("{epoch:03d}.pt", monitor="mAP50")),
        (ycb.ModelCheckpoint("{epoch:04d}"), ycb.ModelCheckpoint("{epoch}", monitor="mAP50")),  # from epoch 1000 on
        (ycb.ModelCheckpoint("a", every_n_epochs=3), ycb.ModelCheckpoint("epoch-{epoch:04d}", save_top_k=2)),
        (ycb.ModelCheckpoint("a", save_last=True), ycb.ModelCheckpoint("b", save_last=True)),
    ],
)
def test_two_that_would_write_the_same_file(model, pair):
    with pytest.raises(ValueError, match=r"would both write .*: give one of them another name"):
        ycb.attach(model, list(pair))


def test_two_that_would_restore_different_weights(model):
    pair = [ycb.EarlyStopping(monitor=m, restore_best_weights=True) for m in ("fitness", "val_loss")]
    with pytest.raises(ValueError, match="only one callback can restore its best weights"):
        ycb.attach(model, pair)


def test_the_same_object_twice(model):
    logger = ycb.CSVLogger()
    with pytest.raises(ValueError, match="the same callback object is in the list twice"):
        ycb.attach(model, [logger, logger])


def test_an_old_ultralytics_gives_one_clear_error(model, monkeypatch):
    monkeypatch.setattr("ultralytics.__version__", "8.4.139")
    with pytest.raises(ImportError, match=r"ultralytics 8.4.139 is too old.*pip install 'ultralytics>=8.4.140'"):
        ycb.attach(model)


def test_a_failed_attach_leaves_what_was_attached(model):
    run = ycb.attach(model, [ycb.CSVLogger()])
    with pytest.raises(TypeError):
        ycb.attach(model, [print])
    assert attachment_of(model) is run


def test_one_that_would_drop_its_own_periodic_files(model):
    with pytest.raises(ValueError, match=r"would both write weights/epoch-12345\.pt"):
        ycb.attach(model, [ycb.ModelCheckpoint("epoch-{epoch:04d}", every_n_epochs=1)])


def test_a_training_in_other_processes_is_read_from_its_folder(model, tmp_path):
    """After a launch on several GPUs the parent's own state, if any, is of an older run."""
    run = ycb.attach(model, [ycb.CSVLogger()])
    stop = ycb.Stop("enough", 2, "EarlyStopping", reason=ycb.StopReason.PLATEAU)
    entries = [Entry(ycb.EpochRecord(1, {"fitness": 0.1})), Entry(ycb.EpochRecord(2, {"fitness": 0.2}), (stop,))]
    before = (ycb.SetLearningRate("slow", 0, "LearningRateScheduler", factor=0.5),)
    Journal(tmp_path / "callbacks" / "journal.jsonl").begin(JournalContent(ycb.Plan(), before, entries))
    model.trainer = SimpleNamespace(ddp=True, save_dir=str(tmp_path))
    assert run.save_dir == tmp_path
    assert run.history["fitness"].tolist() == [0.1, 0.2]
    assert run.decisions == [*before, stop]
    assert run.stop_reason is ycb.StopReason.PLATEAU
    assert run.stop_message == "enough"
    assert repr(run).splitlines() == [
        "Attachment(CSVLogger)",
        "  Best    fitness 0.2000 in epoch 2",
        "  Ended   not yet",
        "  Epochs  2",
        f"  Run     {tmp_path}",
    ]


@pytest.mark.parametrize("verbose", [True, False])
def test_the_process_that_launches_others_shows_how_it_went(model, tmp_path, caplog, verbose):
    ycb.attach(model, [ycb.CSVLogger()])
    model.trainer = launching_trainer(model, tmp_path, verbose=verbose)
    generate_ddp_file(model.trainer)
    Journal(tmp_path / "callbacks" / "journal.jsonl").begin(
        JournalContent(ycb.Plan(), (), [Entry(ycb.EpochRecord(1, {"fitness": 0.1}))])
    )
    Path(tmp_path / "callbacks" / "run.json").write_text(json.dumps({"status": "finished"}))
    assert not model.trainer.best.exists()  # as Ultralytics asks after it
    assert not model.trainer.best.exists()
    assert caplog.text.count("fitness 0.1000 in epoch 1") == verbose


def test_pickling_an_attachment_changes_neither_it_nor_its_trainer(model, tmp_path):
    run = ycb.attach(model, [ycb.CSVLogger()])
    model.trainer = launching_trainer(model, tmp_path)
    before, trainer = dict(vars(run)), dict(vars(model.trainer))
    copied = pickle.loads(pickle.dumps(run))
    assert vars(run) == before
    assert vars(model.trainer) == trainer
    assert copied.save_dir is None


def test_a_callback_that_cannot_travel_is_named_when_workers_are_launched(model, tmp_path):
    class HoldsALock(ycb.Callback):
        def __init__(self):
            self.lock = threading.Lock()

    ycb.attach(model, [HoldsALock()])
    with pytest.raises(TypeError, match="HoldsALock cannot be sent to the training processes"):
        generate_ddp_file(launching_trainer(model, tmp_path))


def test_a_summary_that_cannot_be_shown_harms_nothing(model, tmp_path, monkeypatch, caplog):
    run = ycb.attach(model, [ycb.CSVLogger()])
    model.trainer = SimpleNamespace(ddp=True, save_dir=str(tmp_path))
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "journal.jsonl").write_bytes(b'{"format": 99}\n')
    run.show_summary()
    assert repr(run).startswith("Attachment(CSVLogger)\n  Run  cannot be read: ValueError")
    assert "cannot be read" in run._repr_html_()
    assert "The summary of the run cannot be shown: ValueError" in caplog.text
