"""What an exact resume costs, beside Ultralytics' own `save_model` in the same run; and a picture of what it gives.

    python -m benchmarks.exact_resume [--models n s m] [--optimizer AdamW] [--epochs 10]
    python -m benchmarks.exact_resume --picture docs/exact-resume.png

The trainings are the built-in shapes from scratch. For the picture, one is left alone, and two are killed by SIGKILL in
epoch 13 and resumed: by plain Ultralytics from `last.pt`, and by `BackupAndRestore`.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.surroundings import SMALL, private

KILLED_IN, PLANNED = 13, 24


# ------------------------------------------------------------------------------------------------- in a process


def die(trainer) -> None:
    if trainer.epoch + 1 == KILLED_IN:
        os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, model: str, way: str, **arguments) -> None:
    """Train, or go on, with or without callbacks; `way` may say to kill the process."""
    from ultralytics import YOLO

    import yolo_callbacks as ycb
    from yolo_callbacks.datasets import SHAPES

    resumes, attached, killed = "resume" in way, "exact" in way, "kill" in way
    run = folder / "run"
    yolo = YOLO(ycb.newest_checkpoint(run) if resumes and attached else run / "weights/last.pt" if resumes else model)
    if attached:
        ycb.attach(yolo, [ycb.BackupAndRestore()])
    if killed:
        yolo.add_callback("on_train_batch_end", die)
    if resumes:
        yolo.train(resume=True)
    else:
        yolo.train(data=str(SHAPES["detect"]), project=str(folder), name="run", **{**SMALL, **arguments})


def timed(function, seconds: list[float]):
    """Return the function with a watch around it."""

    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    return call


def measure(folder: Path, model: str, epochs: int, optimizer: str) -> None:
    """Train once with an exact resume, interrupt it, resume it, and print what everything took."""
    from ultralytics.engine.trainer import BaseTrainer

    from yolo_callbacks.run_dir.training_states import TrainingStates
    from yolo_callbacks.session.exact_resume import ExactResume
    from yolo_callbacks.support.background import Background
    from yolo_callbacks.trainer.exact.training_state import TrainingState

    names = ("save_model", "end_epoch", "wait", "capture", "write", "restore", "begin", "first batch")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    sizes: list[tuple[int, int]] = []
    write = TrainingStates.write

    def written(states, epoch, *args, **kwargs):
        write(states, epoch, *args, **kwargs)
        state = next(states.folder.glob(f"epoch{epoch}-*"))
        sizes.append((state.stat().st_size, (folder / "run/weights/last.pt").stat().st_size))

    BaseTrainer.save_model = timed(BaseTrainer.save_model, seconds["save_model"])
    ExactResume.end_epoch = timed(ExactResume.end_epoch, seconds["end_epoch"])
    ExactResume.begin = timed(ExactResume.begin, seconds["begin"])
    TrainingState.capture = timed(TrainingState.capture, seconds["capture"])
    TrainingState.restore = timed(TrainingState.restore, seconds["restore"])
    TrainingStates.write = timed(written, seconds["write"])
    Background.wait = timed(Background.wait, seconds["wait"])

    def interrupt(trainer):
        if trainer.epoch + 1 == epochs:
            raise KeyboardInterrupt

    import contextlib

    from ultralytics import YOLO

    import yolo_callbacks as ycb
    from yolo_callbacks.datasets import SHAPES

    yolo = YOLO(model, verbose=False)
    ycb.attach(yolo, [ycb.BackupAndRestore()])
    yolo.add_callback("on_train_epoch_start", interrupt)
    arguments = {**SMALL, "optimizer": optimizer, "epochs": epochs, "name": "run"}
    with contextlib.suppress(KeyboardInterrupt):
        yolo.train(data=str(SHAPES["detect"]), project=str(folder), **arguments)
    taken = {name: values[1:] for name, values in seconds.items()}  # without the first epoch, which allocates and waits
    resumed = YOLO(ycb.newest_checkpoint(folder / "run"))
    ycb.attach(resumed, [ycb.BackupAndRestore()])
    resumed.train(resume=True)

    def ms(name: str) -> str:
        return f"{1e3 * statistics.median(taken[name]):7.1f} (worst {1e3 * max(taken[name]):7.1f})"

    state, last = sizes[-1]
    ratio = statistics.median(taken["end_epoch"]) / statistics.median(taken["save_model"])
    print(f"{model}, {optimizer}, {len(taken['save_model'])} epochs, ms per epoch")
    print(f"  Ultralytics' save_model          {ms('save_model')}   last.pt {last / 1e6:6.1f} MB")
    print(f"  exact, on the training thread    {ms('end_epoch')}   state   {state / 1e6:6.1f} MB")
    print(f"    of it the copy                 {ms('capture')}")
    print(f"  exact, in the background         {ms('write')}")
    print(f"  ratio of the first two           {ratio:7.3f}")
    again = 1e3 * (seconds["begin"][-1] + seconds["restore"][-1])
    print(f"  a resume: reading, comparing and putting back took {again:.0f} ms", flush=True)


# ------------------------------------------------------------------------------------------------- the picture


def draw(results: dict[str, Path], picture: Path) -> None:
    """Draw the curves of the three trainings."""
    import matplotlib

    matplotlib.use("Agg")
    import pandas as pd
    from matplotlib import pyplot as plt

    frames = {name: pd.read_csv(path).rename(columns=str.strip) for name, path in results.items()}
    looks = {
        "uninterrupted": {"color": "0.75", "linewidth": 6},
        "killed in epoch 13, resumed by Ultralytics": {"color": "tab:red", "linewidth": 1.5},
        "killed in epoch 13, resumed exactly": {"color": "tab:blue", "linewidth": 1.5, "linestyle": "--"},
    }
    columns = {"train/box_loss": "training box loss", "val/box_loss": "validation box loss"}
    columns["metrics/mAP50-95(B)"] = "mAP50-95"
    figure, axes = plt.subplots(1, len(columns), figsize=(12, 3.6), layout="constrained")
    for axis, (column, title) in zip(axes, columns.items()):
        for name, look in looks.items():
            axis.plot(frames[name]["epoch"], frames[name][column], label=name, **look)
        axis.axvline(KILLED_IN - 0.5, color="0.5", linewidth=0.8, linestyle=":")
        axis.set(title=title, xlabel="epoch")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=110)
    alone, plain, exact = (frames[name].drop(columns="time") for name in looks)
    print(f"resumed exactly, the same in every digit: {alone.equals(exact)}; by Ultralytics: {alone.equals(plain)}")


def picture(folder: Path, target: Path, environment: dict[str, str]) -> None:
    """Do the three trainings, each part in a process of its own, and draw them."""
    ways = {
        "uninterrupted": ["alone"],
        "killed in epoch 13, resumed by Ultralytics": ["kill", "resume"],
        "killed in epoch 13, resumed exactly": ["exact kill", "exact resume"],
    }
    for name, parts in ways.items():
        for part in parts:
            words = [sys.executable, "-m", "benchmarks.exact_resume", "--way", part, "--folder", str(folder / name)]
            code = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
            assert code == (-signal.SIGKILL if "kill" in part else 0), (name, part, code)
            print(f"done: {name}, {part}", flush=True)
    draw({name: folder / name / "run" / "results.csv" for name in ways}, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["n", "s"])
    parser.add_argument("--optimizer", default="AdamW")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        train(asked.folder, "yolo26n.yaml", asked.way, epochs=PLANNED, optimizer="AdamW", fraction=0.5)
        return
    if asked.model:
        measure(asked.folder, asked.model, asked.epochs, asked.optimizer)
        return
    with tempfile.TemporaryDirectory() as place:
        environment, folder = private(Path(place)), Path(place)
        if asked.picture:
            picture(folder, asked.picture, environment)
            return
        import torch
        import ultralytics

        versions = f"torch {torch.__version__}, ultralytics {ultralytics.__version__}"
        print(f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}", flush=True)
        environment["YOLO_VERBOSE"] = "False"
        for size in asked.models:
            words = [sys.executable, "-m", "benchmarks.exact_resume", "--model", f"yolo26{size}.yaml"]
            words += ["--folder", str(folder / size), "--epochs", str(asked.epochs), "--optimizer", asked.optimizer]
            subprocess.run(words, env=environment, check=True)


if __name__ == "__main__":
    main()
