"""What no event sees: gradients before clipping, activations, and your own measurement."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


class LargestGradient(ycb.Callback):
    """Measure the largest single gradient of the first layer, as GradientMonitor does it."""

    priority = ycb.Priority.MEASURE

    def setup(self, session):
        """Start watching. The run stops it at its end, even after an exception."""
        self.largest = []
        session.run.model.watch_gradients("LargestGradient", self.look, every_n_steps=10, begin=self.largest.clear)

    def look(self, step):
        """Keep the number on its device: fetching it here would delay training."""
        self.largest.append((step.gradients["model.0.conv.weight"] / step.scale).abs().max())

    def measures(self, session):
        """Name the column."""
        return ("gradients/largest",)

    def measure(self, session):
        """Return the number of the epoch that has just ended."""
        return {"gradients/largest": max(map(float, self.largest))} if self.largest else {}


def main(data=str(SHAPES["detect"]), **arguments):
    """Train, stop if gradients explode, and print what was measured."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(
        model,
        [
            ycb.GradientMonitor(groups={"stem": "model.0.*", "boxes": "model.23.*cv2*", "classes": "model.23.*cv3*"}),
            ycb.ActivationMonitor(layers=["model.4", -2]),
            LargestGradient(),
            ycb.EarlyStopping(monitor="gradients/norm", mode="min", divergence_threshold=1e6, patience=1000),
            ycb.CSVLogger(),
        ],
    )
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    print(run.history.filter(regex="^(gradients|activations)/").T)
    return run


if __name__ == "__main__":
    main()
