"""The callbacks of a Keras script, as they are written there."""

from ultralytics import YOLO

from yolo_callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, attach
from yolo_callbacks.datasets import SHAPES


def main(data=str(SHAPES["detect"]), **arguments):
    """Train; only `model.fit(..., callbacks=...)` has become `attach` and `model.train`."""
    callbacks = [
        EarlyStopping(monitor="val_loss", patience=5, verbose=1, restore_best_weights=True),
        ModelCheckpoint(filepath="best_model.h5", monitor="val_loss", save_best_only=True, verbose=1),
        ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=3, verbose=1),
    ]
    model = YOLO("yolo26n.yaml")
    run = attach(model, callbacks)
    model.train(data=data, **{"epochs": 50, "imgsz": 96, **arguments})
    return run


if __name__ == "__main__":
    main()
