"""What a finish is worth, compared with a stop on the plateau and with training to the end.

    python -m benchmarks.finish FOLDER [--settings easy hard tuned] [--seeds 0 1 2]

For each setting and seed, one whole training on the built-in shapes on the CPU, with a checkpoint every four epochs:
from scratch, except `tuned`, which starts from weights trained on other images. At the first checkpoint after a plain
plateau rule would have stopped it (`--patience`, `--min-delta`, or `--at` for a fixed share of the epochs), trainings
continue from that checkpoint and finish within various lengths, all with the same weights, optimizer and epoch. The
result of a plain stop there is read from the whole training.

FOLDER holds `results.csv`, `results.md` and the trainings. Finished trainings are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVERY = 4  # epochs between two checkpoints
CLOSE_MOSAIC = 10
SETTINGS: dict[str, dict[str, Any]] = {
    "easy": {
        "data": {"train": 256, "val": 128, "size": 96},
        "train": {"epochs": 200, "optimizer": "AdamW", "lr0": 0.002, "cos_lr": False},
    },
    "hard": {
        "data": {"train": 160, "val": 128, "size": 96, "max_objects": 6, "noise": 25.0, "seed": 1},
        "train": {"epochs": 160, "optimizer": "SGD", "lr0": 0.01, "cos_lr": True},
    },
    "tuned": {
        "data": {"train": 160, "val": 128, "size": 96, "max_objects": 6, "noise": 25.0, "seed": 2},
        "train": {"epochs": 150, "optimizer": "AdamW", "lr0": 0.001, "cos_lr": False},
        "from": ("easy", 100),
    },
}
"""`from`: setting and number of epochs of the training whose weights are used."""
LEVEL = 5  # last epochs to average
MEASURES = ("best", "final", "level")
COLUMNS = ("setting", "seed", "ends", "trigger", "epochs", "saved", *MEASURES, *(f"{name}_lost" for name in MEASURES))


def main() -> None:
    """Run the missing trainings, and write the table."""
    chosen = parse()
    os.environ["YOLO_CONFIG_DIR"] = str(chosen.folder / "ultralytics")
    import torch

    torch.set_num_threads(chosen.threads)
    rows = []
    for setting in chosen.settings:
        for seed in chosen.seeds:
            rows += list(compare(chosen, setting, seed))
            write(chosen.folder, rows, chosen)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--lengths", nargs="+", type=float, default=[0.05, 0.1, 0.15, 0.2, 0.3], help="shares")
    parser.add_argument("--patience", type=int, default=15)
    parser.add_argument("--min-delta", type=float, default=0.01)
    parser.add_argument("--at", type=float, help="a fixed share of the epochs instead of the rule")
    parser.add_argument("--shorter", nargs="*", type=float, default=[0.6], help="shares planned from the start")
    parser.add_argument(
        "--pass-loss", action="store_true", help="also move the loss to its one-to-one head by the new end"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    chosen.folder = chosen.folder.resolve()
    return chosen


def compare(chosen: argparse.Namespace, setting: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield one row per way to end a training."""
    folder, epochs = chosen.folder / "runs" / f"{setting}{seed}", SETTINGS[setting]["train"]["epochs"]
    data = dataset(chosen.folder, setting)
    whole = train_whole(folder, data, setting, seed)
    wanted = round(chosen.at * epochs) if chosen.at else plateau(whole, chosen.patience, chosen.min_delta)
    trigger = next((n for n in range(1, epochs, EVERY) if wanted is not None and n >= wanted), None)
    ends = {"whole": whole}
    if trigger is not None:
        ends["stop"] = whole[:trigger]
        for length in chosen.lengths:
            last = trigger + max(CLOSE_MOSAIC, round(length * epochs))
            if last < epochs:
                ends[f"finish {length:.0%}"] = finish(folder, data, trigger, last, pass_loss=chosen.pass_loss)
    for share in chosen.shorter:
        ends[f"planned {share:.0%}"] = train_whole(folder, data, setting, seed, share)
    for name, fitness in ends.items():
        measures = measure(fitness)
        lost = [of_whole - of_this for of_whole, of_this in zip(measure(whole), measures)]
        saved = 1 - len(fitness) / epochs
        yield dict(zip(COLUMNS, (setting, seed, name, trigger or epochs, len(fitness), saved, *measures, *lost)))


def measure(fitness: list[float]) -> tuple[float, float, float]:
    """Return the best epoch's fitness (that of `best.pt`), the last epoch's, and the mean of the last few."""
    return max(fitness), fitness[-1], statistics.mean(fitness[-LEVEL:])


def dataset(folder: Path, setting: str) -> Path:
    """Return the dataset of a setting, which is generated and the same each time."""
    from yolo_callbacks.datasets import build_shapes

    return Path(build_shapes(folder / f"data-{setting}", **SETTINGS[setting]["data"])) / "data.yaml"


def train_whole(folder: Path, data: Path, setting: str, seed: int, share: float = 1.0) -> list[float]:
    """Train to the planned end, or with a share of the epochs planned from the start; return each epoch's fitness."""
    epochs = round(share * SETTINGS[setting]["train"]["epochs"])
    if share < 1.0:
        folder = folder.with_name(f"{folder.name}-planned-{epochs}")
    if len(fitness_in(folder)) < epochs:
        from ultralytics import YOLO, settings

        settings.update({"mlflow": False})
        YOLO(weights(folder.parents[1], setting)).train(
            **{**SETTINGS[setting]["train"], "epochs": epochs},
            **{"imgsz": 96, "batch": 16, "workers": 0, "cache": "ram", "device": "cpu", "amp": False, "plots": False},
            **{"data": str(data), "seed": seed, "patience": 0, "close_mosaic": CLOSE_MOSAIC},
            **{"save_period": EVERY if share == 1.0 else -1},
            **{"project": str(folder.parent), "name": folder.name, "exist_ok": True, "verbose": False},
        )
    return fitness_in(folder)


def weights(folder: Path, setting: str) -> Path | str:
    """Return the initial model: from scratch, or with weights that are trained first."""
    if "from" not in SETTINGS[setting]:
        return "yolo26n.yaml"
    other, epochs = SETTINGS[setting]["from"]
    whole = folder / "runs" / f"for-{setting}"
    train_whole(whole, dataset(folder, other), other, 0, epochs / SETTINGS[other]["train"]["epochs"])
    return whole.with_name(f"{whole.name}-planned-{epochs}") / "weights" / "best.pt"


def fitness_in(folder: Path) -> list[float]:
    """Return the mAP50-95 of each epoch, as logged by Ultralytics."""
    import pandas as pd

    file = folder / "results.csv"
    return pd.read_csv(file)["metrics/mAP50-95(B)"].tolist() if file.exists() else []


def plateau(fitness: list[float], patience: int, min_delta: float) -> int | None:
    """Return the epoch in which `EarlyStopping` ends a training with these values, None if it never does."""
    from yolo_callbacks import EarlyStopping, EpochRecord, History, Plan, Stop

    rule = EarlyStopping(patience=patience, min_delta=min_delta, start_from_epoch=round(0.2 * len(fitness)))
    history = History(Plan(planned_epochs=len(fitness), warmup_epochs=3.0, close_mosaic=CLOSE_MOSAIC))
    for epoch, value in enumerate(fitness, 1):
        history.append(EpochRecord(epoch, {"fitness": value}, planned_epochs=len(fitness)))
        if any(isinstance(decision, Stop) for decision in rule.decide(history)):
            return epoch
    return None


def finish(whole: Path, data: Path, trigger: int, last: int, *, pass_loss: bool) -> list[float]:
    """Continue from the checkpoint of the trigger and finish by an epoch; return the fitness of each epoch."""
    import pandas as pd
    from ultralytics import YOLO, settings

    import yolo_callbacks as ycb

    class FinishAt(ycb.Callback):
        priority = ycb.Priority.DECIDE

        def decide(self, history: ycb.History) -> ycb.Finish | None:
            return ycb.Finish("benchmark", trigger, end_epoch=last) if history.epoch == trigger else None

    folder = whole.parent / f"{whole.name}-{trigger}-{last}{'-passed' * pass_loss}"
    if (folder / "done.json").exists():
        return list(json.loads((folder / "done.json").read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "weights").mkdir(parents=True)
    shutil.copyfile(whole / "weights" / f"epoch{trigger - 1}.pt", folder / "weights" / "last.pt")  # counted from 0
    pd.read_csv(whole / "results.csv", dtype=str).head(trigger).to_csv(folder / "results.csv", index=False)
    settings.update({"mlflow": False})
    model = YOLO(folder / "weights" / "last.pt")
    run = ycb.attach(model, [FinishAt()])
    if pass_loss:
        model.add_callback("on_train_epoch_start", PassLoss(trigger, last))
    model.train(resume=True, save_dir=str(folder), data=str(data), save_period=-1)
    fitness: list[float] = run.history["fitness"].tolist()
    assert len(fitness) == last
    (folder / "done.json").write_text(json.dumps(fitness))
    for file in (folder / "weights").iterdir():
        file.unlink()
    return fitness


class PassLoss:
    """Moves the loss of YOLO26 from its one-to-many to its one-to-one head by the last epoch."""

    def __init__(self, trigger: int, last: int) -> None:
        self.trigger = trigger
        self.last = last

    def __call__(self, trainer: Any) -> None:
        """Set the weights of the heads: those of a later epoch of the whole training."""
        criterion, final = trainer.model.criterion, trainer.args.epochs - 1
        done = (trainer.epoch - self.trigger) / (self.last - 1 - self.trigger)
        criterion.o2m = criterion.decay(self.trigger + (final - self.trigger) * done)
        criterion.o2o = max(criterion.total - criterion.o2m, 0)


def write(folder: Path, rows: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Write every row, and the means over the seeds."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    name = "results" + (f"-at-{chosen.at:g}" if chosen.at else "") + "-passed" * chosen.pass_loss
    frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.5f")
    rule = f"at {chosen.at:.0%} of the epochs" if chosen.at else f"patience {chosen.patience}, {chosen.min_delta:g}"
    head = "| setting | seed | trigger | ends | epochs | best | final | last 5 |"
    lines = [f"Trigger: {rule}.", "", head, "|" + "---|" * 8]
    for row in rows:
        values = " | ".join(f"{row[name]:.4f}" for name in MEASURES)
        lines.append(
            f"| {row['setting']} | {row['seed']} | {row['trigger']} | {row['ends']} | {row['epochs']} | {values} |"
        )
    lines += ["", "Below the whole training, mean and standard deviation:", ""]
    lines += ["| setting | ends | runs | epochs saved | best | final | last 5 |", "|" + "---|" * 7]
    for (setting, ends), group in frame.groupby(["setting", "ends"], sort=False):
        values = " | ".join(spread(group[f"{name}_lost"].tolist()) for name in MEASURES)
        lines.append(f"| {setting} | {ends} | {len(group)} | {group['saved'].mean():.0%} | {values} |")
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def spread(values: list[float]) -> str:
    """Return mean and sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.4f}{deviation}"


if __name__ == "__main__":
    main()
