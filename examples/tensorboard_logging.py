"""Curves, histograms, predictions and decisions of a run in TensorBoard: `tensorboard --logdir runs`."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def main(data=str(SHAPES["detect"]), **arguments):
    """Train with the default callbacks and TensorBoard."""
    model = YOLO("yolo26n.yaml")
    board = ycb.TensorBoard(histogram_freq=5, predictions_freq=5, update_freq=10)
    run = ycb.attach(model, [*ycb.default_callbacks(), board])
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    print(f"tensorboard --logdir {run.save_dir.parent}")
    return run


if __name__ == "__main__":
    main()
