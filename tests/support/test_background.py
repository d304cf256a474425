import threading
import time

import pytest

from yolo_callbacks.support.background import Background


def test_tasks_run_in_order_off_the_calling_thread():
    worker, seen = Background("test"), []
    for number in range(20):
        worker.submit(str(number), lambda number=number: seen.append((number, threading.current_thread())))
    assert worker.close(5)
    assert [number for number, _ in seen] == list(range(20))
    assert threading.current_thread() not in {thread for _, thread in seen}


def test_a_waiting_task_is_replaced_by_a_newer_one_of_its_key():
    worker, gate, seen = Background("test"), threading.Event(), []
    worker.submit("block", gate.wait)
    for number in range(100):
        worker.submit("view", lambda number=number: seen.append(number))
    gate.set()
    assert worker.close(5)
    assert seen == [99]


def test_a_full_queue_waits_and_loses_nothing():
    worker, seen = Background("test", limit=2), []

    def slow(number):
        time.sleep(0.002)
        seen.append(number)

    for number in range(30):
        worker.submit(str(number), lambda number=number: slow(number))
    assert worker.close(5)
    assert seen == list(range(30))


def test_an_error_is_told_once_and_the_next_task_runs(said):
    worker, seen = Background("test"), []

    def broken():
        raise OSError("disk on fire")

    for _ in range(3):
        worker.submit("run.json", broken)
        worker.wait(5)
    worker.submit("next", lambda: seen.append(1))
    worker.close(5)
    assert said.warnings == ["run.json failed; training continues: OSError: disk on fire"]
    assert seen == [1]


def test_a_hanging_task_does_not_hold_up_the_end():
    worker, gate = Background("test"), threading.Event()
    worker.submit("hang", gate.wait)
    start = time.monotonic()
    assert worker.close(0.2) is False
    assert time.monotonic() - start < 2
    gate.set()


def test_after_the_end_a_task_runs_at_once():
    worker, seen = Background("test"), []
    worker.submit("a", lambda: seen.append("a"))
    worker.close(5)
    worker.submit("b", lambda: seen.append("b"))
    assert seen == ["a", "b"]


def test_a_share_bounds_the_time_it_takes_unless_somebody_waits():
    worker, seen = Background("test", share=0.1), []

    def work(number):
        time.sleep(0.02)
        seen.append(number)

    start = time.monotonic()
    for number in range(100):
        worker.submit("view", lambda number=number: work(number))
        time.sleep(0.004)
    elapsed = time.monotonic() - start
    ran = len(seen)
    assert ran <= 1 + elapsed / 0.2 + 1  # 0.02 s of work, then 0.18 s of rest
    assert worker.wait(5)
    assert seen[-1] == 99


@pytest.mark.parametrize("hurry", ["wait", "close"])
def test_whoever_waits_ends_a_rest(hurry):
    worker, seen = Background("test", share=1e-7), []  # 0.01 s of work, then a day of rest
    for number in range(3):
        worker.submit(str(number), lambda number=number: (time.sleep(0.01), seen.append(number)))
    assert getattr(worker, hurry)(30)
    assert seen == [0, 1, 2]
