"""The queue of what is written to TensorBoard's files, and what is read back of them."""

import threading
from collections import Counter
from unittest.mock import Mock

import numpy as np

from yolo_callbacks.reporting import event_log
from yolo_callbacks.reporting.event_log import steps_of
from yolo_callbacks.reporting.tensorboard_data import MARK
from yolo_callbacks.support.background import Background


class Stuck:
    """A worker that never comes to it."""

    def submit(self, key, task):
        pass


def test_pictures_and_histograms_that_wait_are_bounded(caplog):
    log = event_log.EventLog(Stuck(), "TensorBoard")
    for _ in range(10):
        log.add("histograms", lambda writer: None, heavy=True)
        log.add("an epoch", lambda writer: None)
    waiting = Counter(item[0] for item in log._waiting)
    assert waiting == {"histograms": 4, "an epoch": 10}
    (said,) = [line.getMessage() for line in caplog.records]
    assert "TensorBoard: histograms failed; training continues" in said
    assert said.endswith("the disk is slower than training")


def test_numbers_that_wait_are_bounded_and_what_later_ones_need_is_kept(caplog, monkeypatch):
    monkeypatch.setattr(event_log, "_MAX_WAITING", 5)
    done, worker = [], Stuck()
    log = event_log.EventLog(worker, "TensorBoard")
    log.add("opening", lambda writer: setattr(log, "_writer", Mock(file_writer=None)), lasting=True)
    for number in range(100):
        log.add("losses", lambda writer, number=number: done.append(number))
        assert len(log._waiting) <= 5
    log.add("how it ended", lambda writer: done.append("end"), lasting=True)
    (said,) = [line.getMessage() for line in caplog.records]
    assert said.endswith(
        "TensorBoard: 5 entries are waiting because the disk is slower than training: the oldest are dropped"
    )
    log._write()
    assert done == [97, 98, 99, "end"]
    assert log._writer is not None  # so the first one was not left out


def test_a_full_disk_is_told_in_a_sentence_and_by_no_traceback_of_a_thread(tmp_path, monkeypatch, said):
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(writer, data):
        raise OSError(28, "No space left on device")

    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.exc_type))
    monkeypatch.setattr(RecordWriter, "write", full)
    worker = Background("TensorBoard")
    log = event_log.EventLog(worker, "TensorBoard")
    log.open(tmp_path, lambda: 0)
    worker.close(timeout=60)
    assert log.failed
    assert said.warnings == ["TensorBoard failed; training continues: OSError: [Errno 28] No space left on device"]
    other = threading.Thread(target=lambda: 1 / 0)
    other.start()
    other.join()
    assert printed == [ZeroDivisionError]  # somebody else's thread


def test_files_that_are_cut_short_or_no_event_files_are_read_as_far_as_they_go(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for purge in (None, 3):
        with SummaryWriter(str(tmp_path), purge_step=purge) as writer:
            for step in range(purge or 1, 5):
                writer.add_scalar(MARK, 1.0, step)
                writer.add_histogram("weights", np.arange(5000.0), step)
    first, second = sorted(tmp_path.iterdir())
    assert steps_of(tmp_path, MARK) == {1, 2, 3, 4}
    whole = second.read_bytes()
    for length in range(0, len(whole), 97):
        second.write_bytes(whole[:length])
        assert {1, 2} <= steps_of(tmp_path, MARK) <= {1, 2, 3, 4}
    (tmp_path / "events.out.tfevents.9").write_bytes(b"\xff" * 1000)
    second.write_bytes(whole)
    assert steps_of(tmp_path, MARK) == {1, 2, 3, 4}
    first.unlink()
    assert steps_of(tmp_path, MARK) == {3, 4}
    assert steps_of(tmp_path / "nowhere", MARK) == set()
