"""What signals do to `yolo-cb train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from yolo_callbacks.attachment import Attachment
from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.support.signals import SignalWatch
from yolo_callbacks.trainer.ranks import launches_workers


@contextmanager
def stop_on_interrupt(attachment: Attachment, console: Console) -> Iterator[None]:
    """Make the first Ctrl-C end the training after its epoch, and the second one at once."""

    def react(number: int) -> None:
        if not attachment.stop("Ctrl-C was pressed", StopReason.INTERRUPTED):
            raise KeyboardInterrupt
        console.print(
            "\n[bold]Stopping after this epoch, with everything saved. Press Ctrl-C again to stop now.[/bold]",
            soft_wrap=True,
        )

    watch = SignalWatch(["SIGINT"], react)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


@contextmanager
def pass_signals_on(model: Any) -> Iterator[list[int]]:
    """Pass SIGTERM and SIGUSR1 on to the launcher of several ranks, which would go on without this process.

    Gives a list of the signals that were passed on. With one rank nothing changes: the signal ends the process, unless
    a `PreemptionHandler` is there to deal with it.
    """
    passed_on: list[int] = []

    def react(number: int) -> None:
        if not launches_workers(getattr(model, "trainer", None)):
            raise SystemExit(128 + number)
        import psutil

        passed_on.append(number)
        for child in psutil.Process().children():
            child.terminate()  # the launcher knows SIGTERM, passes it on to every rank, and waits for them

    watch = SignalWatch(["SIGTERM", "SIGUSR1"], react)
    watch.start()
    try:
        yield passed_on
    finally:
        watch.stop()
