"""What a run asks TensorBoard to write, and when; tests/callbacks/test_tensorboard.py reads the files back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks.reporting import tensorboard_run
from yolo_callbacks.reporting.tensorboard_run import BoardRun


class Log:
    """Notes what would be written; it fails when it is told to, until it is opened again."""

    def __init__(self, worker, who):
        self.who, self.failed, self.opened, self.added, self.closed = who, False, [], [], False

    def open(self, folder, first):
        self.failed = False
        self.opened.append((folder, first()))

    def add(self, what, write, *, heavy=False, lasting=False):
        if not self.failed:
            self.added.append((what, write))

    def close(self):
        self.closed = True


class Model:
    """Notes what is watched, and what of that has ended."""

    def __init__(self):
        self.watching, self.watched, self.graphs = {}, [], 0

    def _watch(self, name, look):
        self.watched.append(name)
        self.watching[name] = look
        return lambda: self.watching.pop(name, None)

    def watch_gradients(self, who, look):
        return SimpleNamespace(remove=self._watch("gradients", look))

    def watch_validation(self, who, most, look):
        return self._watch(f"{most} images", look)

    def sample_weights(self, most):
        return {"layer": np.ones(2)}

    def prepare_graph(self):
        self.graphs += 1
        return lambda: "graph"

    def release(self):
        pass


class Board:
    """A run whose files and model are made up; session and trainer are those of other reporters' tests."""

    def __init__(self, folder=None, resumed=False, **settings):
        defaults = {"log_dir": None, "histogram_freq": 0, "write_graph": False, "update_freq": "epoch"}
        self.session = SessionStub(folder=folder, resumed=resumed)
        self.model = self.session.run.model = Model()
        self.run = BoardRun(SimpleNamespace(**{**defaults, "predictions_freq": 0, **settings}), self.session)
        self.log = self.run._log

    def epoch(self, batches=1, train=lambda: None, validate=lambda: None):
        """Let an epoch pass, and return what is added in it."""
        log, before = self.run._log, len(self.run._log.added)
        self.begin()
        for _ in range(batches):
            self.run.end_batch()
        train()
        self.run.end_train_part()
        validate()
        self.session.epoch(0.5)
        self.run.end_epoch()
        added = self.run._log.added
        return [what for what, _ in (added[before:] if self.run._log is log else added)]

    def begin(self):
        self.session.run.trainer.epoch = self.session.history.epoch
        self.run.begin_epoch()


@pytest.fixture(autouse=True)
def _logs(monkeypatch):
    monkeypatch.setattr(tensorboard_run, "EventLog", Log)


def step(value, scale=2.0):
    return SimpleNamespace(gradients={"layer": torch.full((3,), value)}, scale=torch.tensor(scale))


# ------------------------------------------------------------------------------------------------- what is due


@pytest.mark.parametrize(("freq", "due"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [1, 4]), (10, [1])])
def test_the_first_epoch_and_every_nth_after_it(freq, due):
    board, seen = Board(histogram_freq=freq, predictions_freq=freq), []
    for number in range(1, 6):
        added = board.epoch(validate=lambda: board.model.watching.get("4 images", list)(["an image"]))
        assert added[0] == "an epoch"
        if added[1:]:
            assert added[1:] == ["histograms", "images of predictions"]
            seen.append(number)
    assert seen == due
    assert board.model.watched == ["gradients", "4 images"] * len(due)
    assert board.model.watching == {}


def test_gradients_are_those_of_the_first_step_that_was_not_skipped():
    board, found = Board(histogram_freq=1), []

    def train():
        for value in (float("inf"), float("nan"), 6.0):
            board.model.watching["gradients"](step(value))
        found.append(board.model.watching)

    board.epoch(train=train)
    assert found == [{}]  # later steps cost nothing
    assert histograms(board) == {"weights": {"layer": [1.0, 1.0]}, "gradients": {"layer": [3.0] * 3}}
    board.epoch()  # of an epoch without a step there are none, and not those of before
    assert histograms(board) == {"weights": {"layer": [1.0, 1.0]}, "gradients": {}}


def histograms(board):
    """Return what the newest histograms are drawn of."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tensorboard_run.data,
            "write_histograms",
            lambda writer, group, sample, *_: found.update(
                {group: {name: values.tolist() for name, values in sample.items()}}
            ),
        )
        next(write for what, write in reversed(board.log.added) if what == "histograms")(None)
    return found


def test_images_of_an_epoch_that_starts_again_are_not_kept():
    board = Board(predictions_freq=1)
    board.begin()
    board.run.end_train_part()
    board.model.watching["4 images"](["an image"])
    assert board.epoch() == ["an epoch"]


# ------------------------------------------------------------------------------------------------- files


def test_a_log_that_fails_is_opened_again_less_and_less_often():
    board, opened = Board(), []
    for number in range(1, 33):
        board.run._log.failed = True
        before = board.run._log
        board.epoch()
        if board.run._log is not before:
            opened.append(number)
    assert opened == [1, 2, 4, 8, 16, 32]


def test_a_log_that_is_opened_again_has_the_epochs_that_were_lost(monkeypatch):
    monkeypatch.setattr(tensorboard_run, "steps_of", lambda folder, mark: {1})
    board = Board()
    assert board.log.opened == [(board.session.run.save_dir, 0)]
    board.epoch()
    board.log.failed = True
    board.epoch()
    again = board.run._log
    assert again is not board.log
    assert again.opened == [(board.session.run.save_dir, 2)]
    written = []
    monkeypatch.setattr(
        tensorboard_run.data.Epochs, "write", lambda self, writer, entry, now: written.append(entry.record.epoch)
    )
    assert [what for what, _ in again.added] == ["earlier epochs"]  # with the newest, which is not added twice
    again.added[0][1](None)
    assert written == [2]


@pytest.mark.parametrize(("write_graph", "resumed", "written"), [(True, False, 1), (False, False, 0), (True, True, 0)])
def test_the_graph_is_written_by_the_run_that_begins_the_files(write_graph, resumed, written, tmp_path):
    if resumed:
        Board(tmp_path / "train").session.files.wait()
    board = Board(tmp_path / "train", resumed, write_graph=write_graph)
    writes = [write for what, write in board.log.added if what == "the graph of the model"]
    assert board.model.graphs == len(writes) == written
    graphs = []
    for write in writes * 2:
        write(SimpleNamespace(add_graph=lambda *arguments: graphs.append(arguments)))
    assert graphs == [("graph", [])] * len(writes)  # a copy of the model is not kept


@pytest.mark.parametrize(("update_freq", "steps"), [("batch", [1, 2, 3, 4, 5, 6]), (4, [4]), (5, [5])])
def test_batches_have_one_file_and_count_on(update_freq, steps):
    board = Board(update_freq=update_freq)
    board.session.run.trainer.train_loader = [0, 1, 2]
    board.epoch(batches=3)
    board.epoch(batches=3)
    batches = board.run._batches
    assert batches.opened == [(board.session.run.save_dir / "batches", 1)]
    written = []
    for _, write in batches.added:
        write(SimpleNamespace(add_scalar=lambda name, value, number, now: written.append((name, number))))
    assert written == [("batch/box_loss", number) for number in steps]


def test_batches_of_an_epoch_that_starts_again_go_to_a_new_file_from_its_first_on():
    board = Board(update_freq="batch")
    board.session.run.trainer.train_loader = [0, 1, 2]
    board.epoch(batches=3)
    board.begin()
    board.run.end_batch()
    board.epoch(batches=3)
    assert [first for _, first in board.run._batches.opened] == [1, 4]


@pytest.mark.parametrize(("both", "new"), [(False, True), (True, False)])
def test_batches_are_written_again_once_the_epochs_are(both, new):
    board = Board(update_freq="batch")
    board.epoch()
    before = board.run._batches
    before.failed, board.run._log.failed = True, both
    board.begin()
    assert (board.run._batches is not before) is new


# ------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("failed", [False, True])
def test_the_end_is_written_and_nothing_is_watched_any_more(failed, monkeypatch):
    told = []
    monkeypatch.setattr(
        tensorboard_run.data, "write_end", lambda writer, how, epoch, error: told.append((how, epoch, error))
    )
    board = Board(histogram_freq=1, update_freq="batch")
    board.epoch()
    board.begin()
    board.run._log.failed = failed
    board.run.close(ValueError("no login at https://me:pa55@host"))
    assert board.model.watching == {}
    assert board.run._log.closed
    assert board.run._batches.closed
    what, write = board.run._log.added[-1]
    write(None)
    assert what == "how it ended"
    assert told == [("ValueError: no login at https://***@host", 1, True)]
