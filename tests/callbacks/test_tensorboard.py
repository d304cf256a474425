"""TensorBoard's files of a run without a training, read back; tests/e2e/test_tensorboard.py trains."""

import importlib.util
import math
import pickle
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks import SaveCheckpoint, Stop, StopReason, TensorBoard
from yolo_callbacks.core.lineup import check_together
from yolo_callbacks.reporting.tensorboard_run import BoardRun


def board(**arguments):
    return TensorBoard(write_graph=False, **arguments)


def begun(callback, **arguments):
    session = SessionStub(callback, **arguments)
    session.begin()
    return session


def callback_of(session):
    (callback,) = session.callbacks.values()
    return callback


def batches(session, *losses):
    """Let an epoch's batches have these losses."""
    callback, trainer = callback_of(session), session.run.trainer
    trainer.epoch, trainer.train_loader = session.history.epoch, losses
    callback.on_train_epoch_start(trainer)
    for loss in losses:
        trainer.loss_items = {"box_loss": loss}
        callback.on_train_batch_end(trainer)
    callback.on_train_epoch_end(trainer)


def read(folder):
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "tensors"), 0)).Reload()


def scalars(folder):
    events = read(folder)
    return {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def texts(folder):
    events = read(folder)
    return {
        tag.removesuffix("/text_summary"): {i.step: i.tensor_proto.string_val[0].decode() for i in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


# ---------------------------------------------------------------------------------------------- epochs


def test_every_number_is_there_at_its_epoch_in_its_group():
    session = begun(board())
    session.epoch(0.25, measures={"seconds": 2.0, "rss_gb": 1.0}, counters={"EarlyStopping/wait": 0})
    session.epoch(None)
    session.epoch(0.5, counters={"EarlyStopping/wait": 1})
    session.end()
    found = scalars(session.run.save_dir)
    assert found["metrics/fitness"] == [(1, 0.25), (3, 0.5)]
    assert found["train/box_loss"] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert found["speed/seconds_per_epoch"] == [(1, 2.0)]
    assert found["memory/rss_gb"] == [(1, 1.0)]
    assert found["EarlyStopping/wait"] == [(1, 0.0), (3, 1.0)]
    assert [step for step, _ in found["lr/factor"]] == [1, 2, 3]


def test_the_best_epoch_so_far_is_there_for_comparing_runs():
    session = begun(board())
    for value in (0.2, 0.5, 0.4, None, math.nan):
        session.epoch(value)
    session.end()
    found = scalars(session.run.save_dir)
    assert [value for _, value in found["best/fitness"]] == pytest.approx([0.2, 0.5, 0.5, 0.5, 0.5])
    assert [value for _, value in found["best/epoch"]] == [1, 2, 2, 2, 2]


def test_decisions_and_the_run_are_there_as_text():
    session = begun(board())
    kept = {"source": "ModelCheckpoint", "file": "weights/a.pt"}
    decided = [
        SaveCheckpoint("kept as a.pt", 1, role="best", **kept),
        SaveCheckpoint("also kept", 1, role="best", **kept),
        SaveCheckpoint("not worth a word", 1, role="backup", announce=False, **kept),
    ]
    session.epoch(0.5, decisions=decided)
    session.end()
    found = texts(session.run.save_dir)
    assert found["decisions/ModelCheckpoint"][1].startswith("epoch 1: kept as a.pt\n\nepoch 1: also kept")
    assert "| imgsz | 640 |" in found["run/arguments"][0]
    assert "| TensorBoard | {'class': 'TensorBoard'" in found["run/callbacks"][0]
    assert "| ultralytics |" in found["run/about"][0]


@pytest.mark.parametrize(
    ("error", "reason", "how"),
    [
        (None, None, "completed 1 epoch"),
        (None, StopReason.PLATEAU, "it ended"),
        (RuntimeError("https://me:pw@host/ is not there"), None, "RuntimeError: https://***@host/ is not there"),
        (SystemExit(143), StopReason.PREEMPTED, "it ended"),
    ],
)
def test_how_it_ended(error, reason, how):
    session = begun(board())
    session.epoch(0.5)
    session.end(error, None if reason is None else Stop("it ended", 1, reason=reason))
    assert texts(session.run.save_dir)["run/end"] == {1: how}


# ---------------------------------------------------------------------------------------------- batches


def losses_of(session):
    session.end()
    folder = session.run.save_dir / "batches"
    return scalars(folder)["batch/box_loss"] if folder.exists() else None


@pytest.mark.parametrize(
    ("update_freq", "expected"),
    [
        ("epoch", None),
        ("batch", [(step, float(step)) for step in range(1, 7)]),
        (1, [(step, float(step)) for step in range(1, 7)]),
        (2, [(2, 2.0), (4, 4.0), (6, 6.0)]),
        (4, [(4, 4.0)]),  # it counts on from epoch to epoch
    ],
)
def test_losses_of_every_nth_batch(update_freq, expected):
    session = begun(board(update_freq=update_freq))
    for losses in ((1, 2, 3), (4, 5, 6)):
        batches(session, *losses)
        session.epoch(0.5)
    assert losses_of(session) == expected


def test_an_epoch_that_starts_again_has_its_batches_once():
    session = begun(board(update_freq="batch"))
    batches(session, 1, 2)
    session.epoch(0.5)
    batches(session, 7, 8)
    batches(session, 3, 4)  # the same epoch
    session.epoch(0.5)
    assert losses_of(session) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


@pytest.mark.parametrize("wanted", [False, True])
def test_batches_per_second_are_measured_if_they_are_wanted(wanted):
    session = begun(board(write_steps_per_second=wanted))
    callback = callback_of(session)
    batches(session, 1, 2, 3)
    measured = callback.measure(session)
    assert list(measured) == list(callback.measures(session)) == ["speed/steps_per_second"] * wanted
    assert all(value > 0 for value in measured.values())
    session.end()
    assert callback.measure(session) == {}


# ---------------------------------------------------------------------------------------------- folders


def test_every_run_has_a_folder_of_its_own_and_finds_it_again(tmp_path):
    logs = tmp_path / "logs"
    first, second = (begun(board(log_dir=logs), folder=tmp_path / project / "train") for project in ("one", "another"))
    for session in (first, second):
        session.epoch(0.5)
        session.end()
    assert {path.name for path in logs.iterdir()} == {"train", "train-2"}
    again = begun(board(log_dir=logs), folder=second.run.save_dir, resumed=True)
    again.end()
    assert {path.name for path in logs.iterdir()} == {"train", "train-2"}
    assert len(list((logs / "train-2").glob("*tfevents*"))) == 2
    assert not list(second.run.save_dir.rglob("*tfevents*"))


def test_where_the_runs_can_be_looked_at_is_said_once(said, tmp_path):
    begun(board(), folder=tmp_path / "runs" / "train").end()
    begun(board(log_dir=tmp_path / "logs")).end()
    lines = [text for _, text in said.lines if "tensorboard --logdir" in text]
    assert [text.partition("--logdir ")[2] for text in lines] == [f"{tmp_path / 'runs'}'", f"{tmp_path / 'logs'}'"]


# ---------------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize("step", ["begin_epoch", "end_batch", "end_train_part"])
def test_an_error_in_an_event_is_told_once_and_ends_nothing(step, monkeypatch, said):
    def fail(self):
        raise RuntimeError("no room")

    fail.__name__ = step
    monkeypatch.setattr(BoardRun, step, fail)
    session = begun(board())
    for _ in range(2):
        batches(session, 1, 2)
        session.epoch(0.5)
    assert said.warnings == [f"TensorBoard.{step} failed; training continues: RuntimeError: no room"]


def test_it_is_pickled_without_the_run():
    session = begun(board(update_freq=3))
    copy = pickle.loads(pickle.dumps(callback_of(session)))
    assert copy.get_config() == callback_of(session).get_config()
    copy.act(session)
    copy.close(session, None)
    session.epoch(0.5)
    session.end()
    assert scalars(session.run.save_dir)["metrics/fitness"] == [(1, 0.5)]


def test_a_second_run_begins_anew():
    callback = board()
    for _ in range(2):
        session = begun(callback)
        session.epoch(0.5)
        session.end()
        assert scalars(session.run.save_dir)["metrics/fitness"] == [(1, 0.5)]


# ---------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"histogram_freq": -1}, ValueError, "histogram_freq=-1 must be >= 0"),
        ({"histogram_freq": 1.5}, TypeError, "histogram_freq=1.5 must be a whole number"),
        ({"predictions_freq": True}, TypeError, "predictions_freq=True must be a whole number >= 0, not bool"),
        ({"update_freq": "batches"}, ValueError, r"update_freq='batches' must be .* \(did you mean 'batch'\?\)"),
        ({"update_freq": 0}, ValueError, "update_freq=0 must be >= 1"),
        ({"update_freq": 1.5}, TypeError, "update_freq=1.5 must be a whole number >= 1"),
        ({"log_dir": 3}, TypeError, "log_dir=3 must be the path of a folder or None, not int"),
        ({"log_dir": ""}, TypeError, "log_dir='' must be the path of a folder"),
        ({"log_dir": "gs://bucket/logs"}, ValueError, "log_dir='gs://bucket/logs' must be a local folder"),
        ({"write_graph": 1}, TypeError, "write_graph=1 must be True or False"),
        ({"write_steps_per_second": None}, TypeError, "write_steps_per_second=None must be True or False"),
        ({"write_images": True}, ValueError, "write_images=True is not available here: predictions_freq"),
        ({"profile_batch": 2}, ValueError, "profile_batch=2 is not available here: torch.profiler"),
        ({"embeddings_freq": 1}, ValueError, "embeddings_freq=1 is not available here"),
        ({"embeddings_metadata": "x"}, ValueError, "embeddings_metadata='x' is not available here"),
        ({"write_grads": True}, TypeError, "write_grads"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        TensorBoard(**arguments)


def test_arguments_of_keras_that_ask_for_nothing_are_taken():
    TensorBoard("./logs", 1, True, False, False, "epoch", 0, 0, None)
    TensorBoard(write_images=False, profile_batch=0, embeddings_freq=0, embeddings_metadata=None)


def test_the_folder_is_kept_as_text(tmp_path):
    assert TensorBoard(tmp_path).get_config()["log_dir"] == str(tmp_path)


def test_two_of_them_must_not_write_the_same_files():
    with pytest.raises(ValueError, match="TensorBoard and TensorBoard-2 would both write"):
        check_together([TensorBoard(), TensorBoard(histogram_freq=1)])
    check_together([TensorBoard(), TensorBoard(log_dir="logs")])


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboard: pip install tensorboard$"):
        TensorBoard()
