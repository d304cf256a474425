"""A training as an MLflow run: parameters, curves, the best checkpoint. `mlflow ui` in the same folder shows it."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


def main(data=str(SHAPES["detect"]), **arguments):
    """Train, and print the run's id. MLFLOW_TRACKING_URI names a server; without it, the store is local."""
    model = YOLO("yolo26n.yaml")
    tracker = ycb.MLflow("shapes", tags={"purpose": "example"})
    run = ycb.attach(model, [ycb.EarlyStopping(patience=20), ycb.ModelCheckpoint(), tracker])
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    print("the run at MLflow:", tracker.current_run_id)
    return run


if __name__ == "__main__":
    main()
