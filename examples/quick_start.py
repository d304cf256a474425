"""The default callbacks on one training, and what can be read of it afterwards."""

from ultralytics import YOLO

import yolo_callbacks as ycb


def main(data="coco8.yaml", **arguments):
    """Train with the defaults and print what happened."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(model)
    model.train(data=data, **{"epochs": 10, "imgsz": 320, **arguments})

    print(run.history[["fitness", "val/box_loss", "lr/pg0"]].tail())
    print("stopped:", run.stop_message or "no, all epochs are done")
    print("files:", run.save_dir)
    return run


if __name__ == "__main__":
    main()
