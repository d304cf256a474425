"""What SystemMonitor tells, and what it samples while batches are trained; the numbers are those of tests/e2e."""

from types import SimpleNamespace

import cloudpickle
import pytest

import yolo_callbacks as ycb
from tests.callbacks.session_stub import SessionStub
from tests.helpers import wait_for
from yolo_callbacks.callbacks import system_monitor
from yolo_callbacks.reporting.metric_names import fit_names, safe_name

SLOW = {"system/data_seconds": 6.0, "system/step_seconds": 4.0}


def slow_epochs(session, count):
    for _ in range(count):
        number = session.history.epoch + 1
        session.history.append(ycb.EpochRecord(number, SLOW, planned_epochs=10))
        for callback in session.callbacks.values():
            callback.act(session)


@pytest.mark.parametrize(("verbose", "lines"), [(1, 1), (0, 0)])
def test_it_says_once_what_limits_the_run_unless_it_is_not_to(verbose, lines, said):
    session = SessionStub(ycb.SystemMonitor(verbose=verbose))
    session.begin()
    slow_epochs(session, 8)
    assert len(said.warnings) == lines
    assert all(line.startswith("SystemMonitor: epoch 4: 60 % of the training time") for line in said.warnings)
    session.end()


def test_a_gpu_is_sampled_only_while_batches_are_trained(monkeypatch):
    """The driver's answers are played; the thread and the session are the real ones."""
    monkeypatch.setattr(system_monitor, "_SAMPLE_SECONDS", 0.001)
    monitor = ycb.SystemMonitor()
    session = SessionStub(monitor)
    taken = []
    session.run.machine = SimpleNamespace(
        load_names=("gpu_utilization",),
        memory_names=("rss_gb",),
        load=lambda: taken.append(1) or {"gpu_utilization": 0.25},
        memory=lambda: {"rss_gb": 1.0},
        release=lambda: None,
    )
    assert list(monitor.measures(session))[-2:] == ["system/rss_gb", "system/gpu_utilization"]
    session.begin()
    assert monitor.measure(session) == {"system/rss_gb": 1.0}
    for _ in range(2):
        monitor.on_train_epoch_start(session.run.trainer)
        before = len(taken)
        wait_for(lambda before=before: len(taken) > before + 1)
        monitor.on_train_epoch_end(session.run.trainer)
        assert monitor.measure(session) == {"system/rss_gb": 1.0, "system/gpu_utilization": 0.25}
        assert monitor.measure(session) == {"system/rss_gb": 1.0}  # the validation is not sampled
    thread = monitor._live._thread
    assert cloudpickle.loads(cloudpickle.dumps(monitor))._live is None
    session.end()
    thread.join(10)
    assert not thread.is_alive()


def test_every_receiver_takes_the_names_as_they_are():
    session = SessionStub(ycb.SystemMonitor())
    session.run.machine = SimpleNamespace(load_names=("gpu_power_w",), memory_names=("rss_gb",))
    names = tuple(ycb.SystemMonitor().measures(session))
    assert fit_names(names) == names == tuple(map(safe_name, names))
