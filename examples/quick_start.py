"""The default callbacks in one training, and what the run tells you afterwards."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def main(data=str(SHAPES["detect"]), **arguments):
    """Train with the defaults and print what happened."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(model)
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})

    print(run.history[["fitness", "val/box_loss", "lr/pg0"]].tail())
    print("stopped:", run.stop_message or "no, completed all epochs")
    print("files:", run.save_dir)
    return run


if __name__ == "__main__":
    main()
