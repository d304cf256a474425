"""Two ranks on one card: NCCL wants a card for each, gloo does not."""

from datetime import timedelta

import torch
from torch import distributed, nn
from ultralytics.utils import RANK

from tests.distributed.cpu_trainer import CPUTrainer, WithoutDeviceIds


class OneCardTrainer(CPUTrainer):
    def _setup_ddp(self):
        if self.device.type == "cpu":
            super()._setup_ddp()
            return
        nn.parallel.DistributedDataParallel = WithoutDeviceIds
        self.device = torch.device("cuda", 0)
        torch.cuda.set_device(0)
        self.accelerator = torch.cuda
        distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size, timeout=timedelta(minutes=10))
