"""Your own numbers on the Ultralytics Platform, and on W&B, MLflow, TensorBoard: wherever Ultralytics reports.

With a key from https://platform.ultralytics.com: `ULTRALYTICS_API_KEY=... python examples/platform_hook.py`. It also
trains without a key.
"""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def f2(numbers):
    """Return the F2 of an epoch; short metric names work as keys."""
    precision, recall = numbers["precision"], numbers["recall"]
    return 5 * precision * recall / (4 * precision + recall + 1e-9)


def overfitting(numbers):
    """Return how much larger the loss is on unseen data."""
    return numbers["val_loss"] / numbers["train_loss"]


def main(data=str(SHAPES["detect"]), **arguments):
    """Train with five numbers added to Ultralytics' own. If the Platform cancels the run, the stop reason says so."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(
        model,
        [
            ycb.EarlyStopping(patience=20),
            ycb.PlatformLogger(
                {
                    "F2": f2,
                    "overfitting": overfitting,
                    "images per second": "images_per_second",
                    "LR factor": "lr_factor",
                    "epochs without improvement": "EarlyStopping/wait",
                }
            ),
        ],
    )
    model.train(data=data, **{**SHAPES_ARGUMENTS, "project": "platform-hook", **arguments})
    print(run.stop_reason, run.stop_message)
    return run


if __name__ == "__main__":
    main()
