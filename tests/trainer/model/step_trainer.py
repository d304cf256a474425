"""A trainer that takes real steps and does nothing else: the real optimizer_step, optimizer and GradScaler."""

from collections import defaultdict

import torch
from torch import nn
from ultralytics.engine.trainer import BaseTrainer

SCALE = 2.0**14


class StepTrainer:
    """The part of Ultralytics' trainer that takes a step."""

    optimizer_step = BaseTrainer.optimizer_step

    def __init__(self, amp=False, fused=False, model=None):
        torch.manual_seed(0)
        self.model = model or nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=fused)
        self.device = torch.device("cpu")
        self.scaler = torch.amp.GradScaler("cpu", enabled=amp, init_scale=SCALE)
        self.ema = None
        self.callbacks = defaultdict(list)

    def batch(self, size=1.0, step=True):
        for function in self.callbacks["on_train_batch_start"]:
            function(self)
        loss = self.model(torch.full((2, 3), size)).square().sum()
        self.scaler.scale(loss).backward()
        if step:
            self.optimizer_step()


def total(tensors):
    return float(torch.linalg.vector_norm(torch.cat([tensor.double().flatten() for tensor in tensors])))


def traces(trainer):
    """Return all that a probe could leave behind."""
    hooks = [
        hook for module in trainer.model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)
    ]
    own = [name for name in vars(trainer) if name.endswith("_step")]
    return [*own, *hooks, *trainer.optimizer._optimizer_step_pre_hooks, *trainer.callbacks["on_train_batch_start"]]


def record_clipping(monkeypatch):
    """Return a list that gets what PyTorch's own clipping says of each step."""
    returned, clip = [], torch.nn.utils.clip_grad_norm_

    def recorded(*args, **kwargs):
        norm = clip(*args, **kwargs)
        returned.append(float(norm))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
    return returned
