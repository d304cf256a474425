"""Several ranks without GPUs: Ultralytics' own launcher and training loop, on CPU processes that talk over gloo.

Only what needs an accelerator is replaced. The rest is as on GPUs: the parent goes through `BaseTrainer.train`,
`generate_ddp_command`, cloudpickle and torchrun, and each worker through `_do_train`.
"""

from datetime import timedelta
from types import SimpleNamespace

import torch
import ultralytics.engine.validator as validation
from torch import distributed, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOCAL_RANK, RANK


class CPUTrainer(DetectionTrainer):
    ranks = 2

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.world_size, self.ddp = self.ranks, RANK == -1  # a CPU has neither, says the trainer

    def run_callbacks(self, event):
        if RANK != -1:  # as with GPUs, whose parent sends no event
            super().run_callbacks(event)

    def _setup_ddp(self):
        torch.set_num_threads(1)
        nn.parallel.DistributedDataParallel = WithoutDeviceIds
        if not isinstance(validation.AutoBackend, _OnTheCPU):
            validation.AutoBackend = _OnTheCPU(validation.AutoBackend)
            validation.get_torch_device_backend = lambda *_: SimpleNamespace(current_device=lambda: LOCAL_RANK)
        # long, as on GPUs: ranks that wait for each other must be seen to hang
        distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size, timeout=timedelta(minutes=10))


class WithoutDeviceIds(nn.parallel.DistributedDataParallel):
    def __init__(self, module, device_ids=None, **kwargs):
        super().__init__(module, **kwargs)


class _OnTheCPU:
    """The final evaluation asks for the rank's GPU."""

    def __init__(self, backend):
        self._backend = backend

    def __call__(self, *args, **kwargs):
        return self._backend(*args, **{**kwargs, "device": torch.device("cpu")})
