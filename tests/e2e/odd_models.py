"""Models that train like any other, and are exported to something else, or not at all."""

import time

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel


class Unknown(DetectionModel):
    """Has an operation that the exporter does not know."""

    def forward(self, x, *args, **kwargs):
        if torch.jit.is_tracing():
            raise RuntimeError("Unsupported operator aten::roll\nand what led to it")
        return super().forward(x, *args, **kwargs)


class Different(DetectionModel):
    """Takes another way while it is exported."""

    def forward(self, x, *args, **kwargs):
        return super().forward(x * 0.5 if torch.jit.is_tracing() else x, *args, **kwargs)


class Slow(DetectionModel):
    """Keeps the exporter busy."""

    def forward(self, x, *args, **kwargs):
        if torch.jit.is_tracing():
            time.sleep(600)
        return super().forward(x, *args, **kwargs)


def trainer_of(model_class):
    """Return a trainer of such a model."""

    class OddTrainer(DetectionTrainer):
        def get_model(self, *args, **kwargs):
            model = super().get_model(*args, **kwargs)
            model.__class__ = model_class
            return model

    return OddTrainer
