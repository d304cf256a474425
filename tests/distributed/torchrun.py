"""torchrun, whose ranks are programs of `tests.programs`, so that they need not import torch again."""

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

from tests import programs


def start(args, *, env, stdout, stderr, start_new_session):
    """Start a rank, as `subprocess.Popen` does; its output goes where torchrun's goes."""
    words = args[1:]
    return programs.start(
        words, env=env, stdout=stdout or sys.stdout, stderr=stderr or sys.stderr, start_new_session=start_new_session
    )


if __name__ == "__main__":
    if programs.FORKS:
        subprocess_handler.Popen = start
    run.main()
