"""Two controllers on top of the trainer's own schedule: your own step, and a reduction on a plateau."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def half_from_epoch_10(epoch, lr):
    """Return the rate for an epoch, counted from 0; a change made once stays."""
    return lr * 0.5 if epoch == 10 else lr


def main(data=str(SHAPES["detect"]), **arguments):
    """Train, and print the learning rate and its factor for each epoch."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(
        model,
        [
            ycb.LearningRateScheduler(half_from_epoch_10),
            ycb.ReduceLROnPlateau(monitor="val_loss", factor=0.2, patience=4, min_lr=1e-6),
            ycb.CSVLogger(),
            ycb.PlotLogger(),
        ],
    )
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    print(run.history[["lr/pg0", "lr_factor", "event"]])
    return run


if __name__ == "__main__":
    main()
