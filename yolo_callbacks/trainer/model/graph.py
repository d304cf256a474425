"""The graph of a model for TensorBoard, traced on a copy, so that the trained model is never touched."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

_LONGEST_SIDE = 128  # pixels; a larger input has the same graph and takes much longer


def prepare_graph(model: Any, channels: int, imgsz: int) -> Callable[[], Any]:
    """Copy a model now, and return a function that traces the copy; it takes seconds, and may run on another thread.

    Args:
        model: The model; it is only read.
        channels: Number of input channels.
        imgsz: Side length of the input in pixels.

    Returns:
        A function that returns the traced model.
    """
    import torch

    # permanently, as Ultralytics' exporter does: warning filters belong to the process, not to the tracing thread
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.trace", category=FutureWarning)
    warnings.filterwarnings("ignore", message="The input to trace is already a ScriptModule", category=UserWarning)
    copy = deepcopy(model).cpu().float().eval()
    for module in copy.modules():
        if hasattr(module, "export"):  # heads, whose training outputs cannot be traced
            module.export, module.format = True, "torchscript"
    side = min(imgsz, _LONGEST_SIDE)

    def trace() -> Any:
        with torch.no_grad():
            # check_trace would reset the random state of the whole process
            return torch.jit.trace(copy, torch.zeros(1, channels, side, side), strict=False, check_trace=False)

    return trace
