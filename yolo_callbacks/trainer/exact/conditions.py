"""What must be the same before and after an interruption for the numbers to be the same, and what never is."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

# arguments that change no number of the training, or that are compared by what they lead to
_WITHOUT_EFFECT = {
    *("batch", "cfg", "data", "device", "exist_ok", "mode", "model", "name", "patience", "plots", "pretrained"),
    *("project", "resume", "save", "save_dir", "save_period", "verbose", "workers"),
}
_PACKAGES = ("albumentations", "numpy", "opencv-python", "torch", "torchvision", "ultralytics")


def obstacles(trainer: Any) -> list[str]:
    """Return why a training cannot be resumed exactly, whatever is saved of it; nothing if it can.

    What was never tried is among it: better a resume that says that its numbers differ.
    """
    return list(_obstacles(trainer))


def _obstacles(trainer: Any) -> Iterator[str]:
    from torch.optim.lr_scheduler import LambdaLR

    args = vars(trainer.args)
    if args.get("time"):
        yield "time= plans by the clock"
    for name in ("compile", "distill_model"):
        if args.get(name):
            yield f"{name}= is on"
    if args.get("quantize") == 8:
        yield "quantize=8 is on"
    if trainer.device.type not in ("cpu", "cuda"):
        yield f"the device is '{trainer.device.type}'"
    if type(trainer.scheduler) is not LambdaLR:
        yield f"the scheduler is a {type(trainer.scheduler).__name__}"
    if trainer.ema is None:
        yield "there is no EMA"
    for what, loader in (("training", trainer.train_loader), ("validation", trainer.test_loader)):
        if (problem := _loader_problem(loader)) is not None:
            yield f"the {what} data loader {problem}"


def _loader_problem(loader: Any) -> str | None:
    from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler
    from ultralytics.data.build import InfiniteDataLoader

    if type(loader) is not InfiniteDataLoader:
        return "is not Ultralytics' own"
    if type(batches := loader.batch_sampler.sampler) is not BatchSampler:
        return f"has a {type(batches).__name__}"
    sampler = batches.sampler
    sampler = getattr(sampler, "sampler", sampler)  # already recorded
    known = (DistributedSampler, RandomSampler, SequentialSampler)
    if type(sampler) not in known and type(sampler).__name__ != "ContiguousDistributedSampler":
        return f"has a {type(sampler).__name__}"
    if hasattr(loader.dataset, "datasets"):
        return "has several data sets"
    if getattr(loader.iterator, "_num_yielded", 0):
        return "has begun before it could be followed"
    return None


def conditions(trainer: Any, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return what must be the same for the numbers to be the same.

    Args:
        trainer: The trainer.
        digests: The fingerprints of the data.
    """
    train, val = trainer.train_loader, trainer.test_loader
    return {
        "ranks": max(1, int(trainer.world_size or 0)),
        "batch": int(trainer.batch_size),
        "workers": int(train.num_workers),
        "validation workers": int(val.num_workers),
        **digests,
        "device": _device(trainer.device),
        "optimizer": type(trainer.optimizer).__name__,
        **_versions(),
        **{f"argument {name}": str(value) for name, value in vars(trainer.args).items() if name not in _WITHOUT_EFFECT},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was, a few words each.

    Example:
        >>> differences({"workers": 2, "batch": 4}, {"workers": 0, "batch": 4})
        ['workers: 0 instead of 2']
    """
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}: {now.get(name)} instead of {before.get(name)}"
        if not name.endswith("images")
        else f"the {name} are not the same"
        for name in names
        if before.get(name) != now.get(name)
    ]


def data_digest(dataset: Any) -> str:
    """Return a fingerprint of a data set: how its files are called, in which order, and how they are labeled.

    The pictures themselves are not read: that would take as long as an epoch.
    """
    digest = hashlib.sha256()
    samples = getattr(dataset, "samples", None)
    files = [sample[:2] for sample in samples] if samples is not None else [[f] for f in dataset.im_files]
    for file, *rest in files:
        digest.update(str(file).replace("\\", "/").rpartition("/")[2].encode())
        digest.update(repr(rest).encode())
    for label in getattr(dataset, "labels", None) or ():
        for name in ("shape", "cls", "bboxes", "keypoints"):
            value: Any = label.get(name)
            digest.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "none"
    return versions


def _device(device: Any) -> str:
    """Return what computes: another processor, or another number of threads, may round in another way."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"
