"""Machine: what a training takes of its machine: memory, the disk, and the load of its GPU."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_GB = 2**30


class Machine:
    """Reads memory, disk and GPU load of one training, of this process alone. Changes nothing.

    Ultralytics' `SystemLogger` reads the whole machine, and the GPUs by the driver's numbers, which differ from those
    of PyTorch if `CUDA_VISIBLE_DEVICES` is set.

    Args:
        trainer: An Ultralytics trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._load_names: tuple[str, ...] | None = None

    def release(self) -> None:
        """Drop the trainer."""
        self._trainer = None

    # ---------------------------------------------------------------- memory and disk

    @property
    def _on_cuda(self) -> bool:
        return bool(self._trainer.device.type == "cuda")

    @property
    def memory_names(self) -> tuple[str, ...]:
        """The names that `memory` can return in this training."""
        workers = ("workers_rss_gb",) if getattr(self._trainer.train_loader, "num_workers", 0) else ()
        gpu = ("gpu_allocated_gb", "gpu_peak_gb", "gpu_reserved_gb") if self._on_cuda else ()
        return ("rss_gb", *workers, *gpu, "disk_free_gb")

    def memory(self) -> dict[str, float]:
        """Return memory and free disk space in GiB; what cannot be read is missing."""
        import psutil

        measured = {"rss_gb": psutil.Process().memory_info().rss / _GB}
        workers = [rss for rss in map(_rss, self._worker_pids()) if rss]
        if workers:
            measured["workers_rss_gb"] = sum(workers) / _GB
        if self._on_cuda:
            import torch

            stats = torch.cuda.memory_stats(self._trainer.device)
            measured["gpu_allocated_gb"] = stats["allocated_bytes.all.current"] / _GB
            measured["gpu_peak_gb"] = stats["allocated_bytes.all.peak"] / _GB
            measured["gpu_reserved_gb"] = stats["reserved_bytes.all.current"] / _GB
        with suppress(OSError):  # somebody may have moved the folder
            measured["disk_free_gb"] = psutil.disk_usage(str(self._trainer.save_dir)).free / _GB
        return measured

    def _worker_pids(self) -> list[int]:
        """Return the processes that load data, for training and validation."""
        loaders = (self._trainer.train_loader, self._trainer.test_loader)
        iterators = (getattr(loader, "iterator", None) for loader in loaders)
        return [worker.pid for iterator in iterators for worker in getattr(iterator, "_workers", ())]

    # ---------------------------------------------------------------- the load of the GPU

    @property
    def load_names(self) -> tuple[str, ...]:
        """The names that `load` returns in this training; none without a GPU whose driver tells its load."""
        if self._load_names is None:
            self._load_names = tuple(self.load())
        return self._load_names

    def load(self) -> Mapping[str, float]:
        """Return the share of time in [0, 1] in which the GPU has worked in its last sample period, and its power in W.

        From any thread. May take milliseconds. A figure that the GPU or its driver does not give is missing.
        """
        trainer = self._trainer
        if trainer is None or trainer.device.type != "cuda":
            return {}
        import torch

        measured = {}
        readers = {"gpu_utilization": ("utilization", 100.0), "gpu_power_w": ("power_draw", 1000.0)}
        for name, (function, unit) in readers.items():
            try:  # PyTorch knows which of the driver's GPUs this one is
                measured[name] = getattr(torch.cuda, function)(trainer.device) / unit
            except Exception:  # no NVML, a virtual GPU, an old driver or PyTorch: each fails in its own way
                continue
        return measured


def _rss(pid: int) -> int:
    """Return the memory of a process in bytes; 0 if it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
