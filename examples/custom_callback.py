"""Your own callbacks: a decision, as a pure function of the history, and an effect after each epoch."""

from ultralytics import YOLO

import yolo_callbacks as ycb
from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS


class StopWhenGoodEnough(ycb.Callback):
    """Stop once recall and mAP50 have both been good for several epochs in a row."""

    priority = ycb.Priority.DECIDE

    def __init__(self, at_least=0.5, epochs=3):
        self.at_least = at_least
        self.epochs = epochs

    def decide(self, history):
        """Decide from the history alone; nothing is stored elsewhere, so a resumed run decides the same."""
        last = history[-self.epochs :]
        good = [
            record.validated
            and record.metrics["metrics/mAP50(B)"] >= self.at_least
            and record.metrics["metrics/recall(B)"] >= self.at_least
            for record in last
        ]
        if len(good) == self.epochs and all(good):
            message = f"recall and mAP50 were at least {self.at_least} for {self.epochs} epochs"
            return ycb.Stop(message, history.epoch, reason=ycb.StopReason.THRESHOLD)
        return None


class PrintProgress(ycb.Callback):
    """Print one line per epoch. An error in it would be logged once; training would continue."""

    def act(self, session):
        """Print the newest epoch."""
        record = session.history[-1]
        fitness = record.metrics.get("fitness", float("nan"))
        print(f"{record.epoch:>4} of {record.planned_epochs}: fitness {fitness:.4f}")


def main(data=str(SHAPES["detect"]), **arguments):
    """Train with both."""
    model = YOLO("yolo26n.yaml")
    run = ycb.attach(model, [StopWhenGoodEnough(), PrintProgress(), ycb.CSVLogger()])
    model.train(data=data, **{**SHAPES_ARGUMENTS, **arguments})
    return run


if __name__ == "__main__":
    main()
