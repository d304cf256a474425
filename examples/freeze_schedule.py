"""Fine-tuning in two steps: the head learns first, then the backbone with it, slowly at the beginning."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def main(data=str(SHAPES["detect"]), **arguments):
    """Train, and print which part of the learning rate the layers had in each epoch; 0 while they were frozen."""
    model = YOLO("yolo26n.yaml")  # "yolo26n.pt" where there is a network: frozen layers should know something
    run = ycb.attach(
        model,
        [
            # a layer is frozen while any of these wants it frozen: the deeper half of the backbone learns first
            ycb.FreezeBackbone(0.1, lr_factor=0.1, lr_ramp_epochs=5),
            ycb.FreezeBackbone(0.2, layers=6),
            ycb.CSVLogger(),
            ycb.PlotLogger(),
        ],
    )
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    print(run.history[["FreezeBackbone/lr_factor", "FreezeBackbone-2/lr_factor", "event"]])
    return run


if __name__ == "__main__":
    main()
