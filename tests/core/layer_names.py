"""What a model of twelve layers calls its parts."""

from yolo_callbacks.core.layer_patterns import LayerNames

# as of a YOLO: 12 layers with a convolution and a BatchNorm, but for layer 11, which has nothing to learn
_PARAMETERS = tuple(f"model.{i}.{part}" for i in (*range(11), 12) for part in ("conv.weight", "bn.weight", "bn.bias"))
_MODULES = ("model", *(f"model.{i}" for i in range(13)))
_INNER = tuple(f"model.{i}.{part}" for i in (*range(11), 12) for part in ("conv", "bn"))
YOLO = LayerNames(_PARAMETERS, (*_MODULES, *_INNER), tuple(f"model.{i}" for i in range(10)))


def layers_of(parameters):
    return sorted({int(name.split(".")[1]) for name in parameters})
