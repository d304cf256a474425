"""Values that users put among the metrics, and which of them are numbers."""

import numpy as np
import torch

ODD = {
    "text": "hello",
    "nothing": None,
    "list": [1.0, 2.0],
    "dict": {"a": 1.0},
    "vector": torch.ones(3),
    "huge": 10**400,
    "complex": 1j,
    "nan": float("nan"),
    "inf": float("inf"),
    "scalar": torch.tensor(2.5),
    "numpy": np.float32(0.5),
    "true": True,
    7: 1.0,
}
NUMBERS = {"nan": float("nan"), "inf": float("inf"), "scalar": 2.5, "numpy": 0.5, "true": 1.0, "7": 1.0}
