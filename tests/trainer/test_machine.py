"""What a training takes of its machine; a GPU that is not here is played by PyTorch's functions."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from yolo_callbacks.trainer.machine import Machine

GB = 2**30


def trainer(folder, device="cpu", workers=0, iterator=None):
    loader = SimpleNamespace(num_workers=workers, iterator=iterator)
    return SimpleNamespace(
        device=torch.device(device), save_dir=folder, train_loader=loader, test_loader=SimpleNamespace(iterator=None)
    )


@pytest.fixture
def gpu(monkeypatch):
    """Return the answers of a GPU, which the test may change."""
    answers = SimpleNamespace(utilization=lambda device: 40, power_draw=lambda device: 250_000)
    stats = {
        "allocated_bytes.all.current": 2 * GB,
        "allocated_bytes.all.peak": 6 * GB,
        "reserved_bytes.all.current": 8 * GB,
    }
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: stats)
    for name in ("utilization", "power_draw"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: getattr(answers, name)(device))
    return answers


def test_without_a_gpu_there_are_no_numbers_of_one(tmp_path):
    machine = Machine(trainer(tmp_path))
    assert machine.load_names == ()
    assert machine.memory_names == ("rss_gb", "disk_free_gb")
    measured = machine.memory()
    assert tuple(measured) == machine.memory_names
    assert 0 < measured["rss_gb"] < 1000 and measured["disk_free_gb"] > 0


def test_a_folder_that_is_gone_costs_only_its_own_number(tmp_path):
    assert set(Machine(trainer(tmp_path / "gone")).memory()) == {"rss_gb"}


def test_a_gpu_tells_its_memory_its_load_and_its_power(gpu, tmp_path):
    machine = Machine(trainer(tmp_path, "cuda:0"))
    assert machine.load_names == ("gpu_utilization", "gpu_power_w")
    assert machine.load() == {"gpu_utilization": 0.4, "gpu_power_w": 250.0}
    measured = machine.memory()
    assert {name: measured[name] for name in measured if name.startswith("gpu")} == {
        "gpu_allocated_gb": 2.0,
        "gpu_peak_gb": 6.0,
        "gpu_reserved_gb": 8.0,
    }
    assert set(measured) == set(machine.memory_names)


@pytest.mark.parametrize("error", [ModuleNotFoundError("no pynvml"), RuntimeError("no driver"), AttributeError("MIG")])
def test_what_the_driver_does_not_tell_has_no_column(gpu, tmp_path, error):
    def fail(device):
        raise error

    gpu.power_draw = fail
    assert Machine(trainer(tmp_path, "cuda:0")).load_names == ("gpu_utilization",)
    gpu.utilization = fail
    assert Machine(trainer(tmp_path, "cuda:0")).load_names == ()


def test_workers_count_as_long_as_they_live(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    workers = [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=gone.pid)]
    machine = Machine(trainer(tmp_path, workers=2, iterator=SimpleNamespace(_workers=workers)))
    assert "workers_rss_gb" in machine.memory_names
    measured = machine.memory()
    assert measured["workers_rss_gb"] == pytest.approx(measured["rss_gb"], rel=0.1)
    machine = Machine(trainer(tmp_path, workers=2))  # they have not been started yet
    assert "workers_rss_gb" not in machine.memory()


def test_after_the_run_there_is_nothing_to_sample(gpu, tmp_path):
    machine = Machine(trainer(tmp_path, "cuda:0"))
    machine.release()
    assert machine.load() == {}
