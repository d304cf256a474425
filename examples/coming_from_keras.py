"""The callbacks of a Keras script, unchanged."""

import datetime

from ultralytics import YOLO

from yolo_callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, TensorBoard, attach
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def main(data=str(SHAPES["detect"]), **arguments):
    """Train; only `model.fit(..., callbacks=...)` becomes `attach` and `model.train`."""
    log_dir = "logs/fit/" + datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    callbacks = [
        EarlyStopping(monitor="val_loss", patience=5, verbose=1, restore_best_weights=True),
        ModelCheckpoint(filepath="best_model.h5", monitor="val_loss", save_best_only=True, verbose=1),
        ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=3, verbose=1),
        TensorBoard(log_dir=log_dir, histogram_freq=1),
    ]
    model = YOLO("yolo26n.yaml")
    run = attach(model, callbacks)
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    return run


if __name__ == "__main__":
    main()
