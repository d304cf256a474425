"""How `yolo-cb train` handles signals."""

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
    """Stop after the current epoch at the first Ctrl-C, and immediately at the second."""

    def react(number: int) -> None:
        if not attachment.stop("interrupted (Ctrl-C)", StopReason.INTERRUPTED):
            raise KeyboardInterrupt
        console.print(
            "\n[bold]Stopping after this epoch, with everything saved. Press Ctrl-C again to stop immediately.[/bold]",
            soft_wrap=True,
        )

    watch = SignalWatch(["SIGINT"], react)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


@contextmanager
def forward_signals(model: Any) -> Iterator[list[int]]:
    """Forward SIGTERM and SIGUSR1 to the DDP launcher, which would otherwise outlive this process.

    Yields a list that collects the forwarded signals. With one rank, nothing changes: a signal ends the process, unless
    a `PreemptionHandler` handles it.
    """
    forwarded: list[int] = []

    def react(number: int) -> None:
        if not launches_workers(getattr(model, "trainer", None)):
            raise SystemExit(128 + number)
        import psutil

        forwarded.append(number)
        for child in psutil.Process().children():
            child.terminate()  # the launcher forwards SIGTERM to every rank, and waits for them

    watch = SignalWatch(["SIGTERM", "SIGUSR1"], react)
    watch.start()
    try:
        yield forwarded
    finally:
        watch.stop()
