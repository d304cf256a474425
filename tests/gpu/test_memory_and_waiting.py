"""What trainings leave on the GPU, and how often a batch waits for it."""

import gc
import warnings
import weakref

import pytest
import torch

import yolo_callbacks as ycb

pytestmark = pytest.mark.gpu

MIB = 2**20


def monitors():
    layers = ycb.ActivationMonitor("model.4", every_n_batches=1)
    return [ycb.GradientMonitor(every_n_steps=1), layers, ycb.SystemMonitor()]


def test_memory_and_load_are_in_the_columns(train, device):
    """The training is longer than the second in which the driver is asked once."""
    _, run = train([ycb.SystemMonitor()], epochs=30)
    if device == "cpu":
        assert not run.history.filter(like="system/gpu").shape[1]
        return
    held, peak, reserved = (run.history[f"system/gpu_{name}_gb"] for name in ("allocated", "peak", "reserved"))
    assert (held > 0).all() and (peak >= held).all() and (reserved >= held).all()
    assert peak.iloc[-1] == pytest.approx(torch.cuda.max_memory_allocated() / 2**30)
    load = run.history["system/gpu_utilization"].dropna()
    assert len(load) and load.between(0, 1).all()
    assert run.history["system/gpu_power_w"].dropna().between(1, 2000).all()


def test_nothing_is_left_of_a_training(train, allocated):
    runs, trainers, held = [], [], []
    for _ in range(4):
        model, run = train([*ycb.default_callbacks(), ycb.FreezeBackbone(1), *monitors()], epochs=2)
        trainers.append(weakref.ref(model.trainer))
        runs.append(run)
        del model
        gc.collect()
        held.append(allocated())
    assert [trainer() for trainer in trainers] == [None] * 4
    assert held[-1] - held[0] < MIB, held
    assert [len(run.history) for run in runs] == [2] * 4


def test_a_plain_training_takes_as_much(train, allocated, device):
    peaks = {}
    for name, callbacks in (("first", None), ("plain", None), ("attached", ycb.default_callbacks())):
        before = allocated()
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        train(callbacks, epochs=2)
        peaks[name] = 0 if device == "cpu" else torch.cuda.max_memory_allocated() - before
    assert peaks["attached"] - peaks["plain"] < 16 * MIB, peaks


@pytest.mark.parametrize("callbacks", [ycb.default_callbacks, monitors], ids=["default callbacks", "monitors"])
def test_no_batch_waits_for_the_gpu_because_of_us(callbacks, train, device):
    """All numbers stay on the GPU until an epoch ends: whatever waits in a batch does so without us as well."""

    def waits(chosen):
        counts = {}

        def begin(trainer):
            caught.clear()
            if device != "cpu":
                torch.cuda.set_sync_debug_mode("warn")

        def end(trainer):
            if device != "cpu":
                torch.cuda.set_sync_debug_mode("default")
            counts.setdefault(trainer.epoch, []).append(sum("synchroniz" in str(w.message) for w in caught))

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(chosen, ("on_train_batch_start", begin), ("on_train_batch_end", end), epochs=3, batch=1, nbs=1)
        return counts[2]  # the first epochs look for the fastest kernels

    plain, attached = waits(None), waits(callbacks())
    assert len(plain) == 4
    assert attached == plain
