"""Stop on your own metric, and keep the best checkpoints by it: F2, which weighs recall higher than precision."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def f2(metrics):
    """Return the F2 of an epoch; short metric names work as keys."""
    precision, recall = metrics["precision"], metrics["recall"]
    return 5 * precision * recall / (4 * precision + recall + 1e-9)


def main(data=str(SHAPES["detect"]), **arguments):
    """Train until F2 has not improved for 20 epochs; the model ends with the weights of the best F2."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(
        model,
        [
            ycb.EarlyStopping(monitor=f2, mode="max", patience=20, restore_best_weights=True),
            ycb.ModelCheckpoint("f2-{epoch:03d}-{monitor:.4f}", monitor=f2, mode="max", save_top_k=3),
            ycb.CSVLogger(),
        ],
    )
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    return run


if __name__ == "__main__":
    main()
