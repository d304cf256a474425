"""Fine-tuning in steps: the head learns first, then the backbone, part by part, slowly at first."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def main(data=str(SHAPES["detect"]), **arguments):
    """Train, and print the factor on the learning rate of the layers in each epoch, 0 while they are frozen."""
    model = YOLO("yolo26n.yaml")  # better "yolo26n.pt": freezing makes sense only for pretrained layers
    run = ycb.attach(
        model,
        [
            # a layer is frozen while any callback freezes it: the deeper half of the backbone learns first
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
