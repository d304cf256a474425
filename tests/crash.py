"""Trainings in forks of a process that has imported everything and never trains itself, to be killed."""

import os
import signal
import traceback

import yolo_callbacks as ycb
from yolo_callbacks.run_dir.recovery import NoCheckpointError


def fork(function, *args, log):
    """Run a function in a child of its own, and return the child's number."""
    child = os.fork()
    if child:
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        function(*args)
    except SystemExit as left:
        os._exit(left.code)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def go_on(run, resume, begin):
    """Resume a killed run from its newest checkpoint, or begin it again where it has none; nothing where all was done.

    Args:
        run: The run directory.
        resume: Called with the checkpoint.
        begin: Called without arguments.
    """
    try:
        checkpoint = ycb.newest_checkpoint(run)
    except NoCheckpointError as error:
        if error.ended:  # it was killed when all was done
            return
        if not error.untouched and run.exists():
            raise
        begin()
        return
    resume(checkpoint)
