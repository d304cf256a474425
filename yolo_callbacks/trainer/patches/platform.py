"""Keeps Ultralytics' Platform integration from failing a training, and from holding it up.

Changed: how the Platform's functions are called. `guarded_integrations.py` wraps them in `PlatformGuard`.
Why: they survive a failed connection, but not every answer. An upload without `uploadUrl`, a `modelId` that is not a
string, a list instead of an object, a failed earlier upload, or a disk that refuses the file with the model's id raise
out of `train()`. Two of them wait for the server on the training thread, for minutes if it does not answer. On several
GPUs, a cancel ends the epoch on one rank only, and the others wait for it forever.
Undone: never; the functions belong to this trainer only. `release_console` restores the process's output.
Needed in: every version that is supported.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.patches.guard import Guard

START_SECONDS = 20.0
"""How long a run waits to be registered on the Platform; Ultralytics itself tries for two minutes."""

END_SECONDS = 60.0
"""How long `train()` waits for the last upload, which then continues in the background until the process ends."""

WHO = "Ultralytics Platform"


def is_cancelled(trainer: Any) -> bool:
    """Return whether the run was cancelled from the Platform."""
    state = platform_state(trainer)
    return bool(state and state.get("cancelled"))


def platform_model(trainer: Any) -> dict[str, str]:
    """Return the id and, if known, the URL of the run's model on the Platform; empty if it has none."""
    state = platform_state(trainer) or {}
    return {key: str(state[key]) for key in ("model_id", "model_url") if state.get(key)}


def release_console(trainer: Any) -> None:
    """Restore the process's output, which older versions of Ultralytics keep capturing after an exception."""
    console = (platform_state(trainer) or {}).get("console_logger")
    if console is not None:
        console.stop_capture()


def platform_state(trainer: Any) -> dict[str, Any] | None:
    """Return the state that the Platform's integration keeps on the trainer; None if it is off."""
    state = getattr(trainer, "platform", None)
    return state if isinstance(state, dict) else None


class PlatformGuard(Guard):
    """Calls the Platform's functions for one trainer."""

    def __init__(self) -> None:
        super().__init__(WHO)

    def call(self, event: str, function: Callable[[Any], Any], source: Any) -> None:
        """Call a function for an event; limit the wait at the start and at the end."""
        if event == "on_pretrain_routine_start":
            self.register(function, source)
        elif event == "on_train_end":
            self.finish(function, source)
        else:
            self.attempt(function, _without_early_stop(source), event)

    def register(self, function: Callable[[Any], Any], trainer: Any) -> None:
        """Register the run within a time limit; if that fails, the run continues without the Platform."""
        done: list[bool] = []

        # a cancel in the answer is also in the state, and takes effect when the trainer is set up
        def work() -> None:
            view = _View(trainer, stop=False)
            done.append(self.attempt(function, view, "registering the run", "the run is not tracked"))

        in_time = False
        try:
            in_time = _within(START_SECONDS, work)
        finally:  # after Ctrl-C, the output must not be captured later
            if not in_time or not done[0]:
                self._do_without(trainer)
        if not in_time:
            LOGGER.warning(f"{WHO}: no answer within {START_SECONDS:g} s; the run is not tracked")

    def _do_without(self, trainer: Any) -> None:
        """Send nothing more, even if the run is registered after all."""
        state, trainer.platform = platform_state(trainer), None
        if state is not None and state.get("console_logger"):
            console, state["console_logger"] = state["console_logger"], _NoConsole()
            console.stop_capture()

    def finish(self, function: Callable[[Any], Any], trainer: Any) -> None:
        """Send the model and the results within a time limit; the results even if the model cannot be sent."""
        nowhere = Path(trainer.save_dir) / "weights" / "not uploaded.pt"

        def work() -> None:
            self._settle_earlier_upload(trainer)
            if not self.attempt(function, trainer, "uploading the model", "the results are sent without it"):
                self.attempt(function, _View(trainer, best=nowhere, last=nowhere), "sending the results")

        if not _within(END_SECONDS, work, finish_at_exit=True):
            LOGGER.warning(f"{WHO}: the upload takes longer than {END_SECONDS:g} s and continues in the background")

    def _settle_earlier_upload(self, trainer: Any) -> None:
        """Wait for an earlier upload; its failure must not prevent the upload of the finished model."""
        state = platform_state(trainer)
        upload = state and state.get("checkpoint_upload")
        if state and upload and not self.attempt(lambda _: upload.result(), trainer, "uploading a checkpoint"):
            state["checkpoint_upload"] = None


class _View:
    """A trainer with some attributes replaced; setting those has no effect."""

    def __init__(self, trainer: Any, **own: Any) -> None:
        vars(self).update(own, _trainer=trainer, _own=frozenset(own))

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_trainer"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in vars(self)["_own"]:
            setattr(vars(self)["_trainer"], name, value)


class _NoConsole:
    """Replaces a capture of the console that must no longer start."""

    progress_sent: Mapping[str, str] = MappingProxyType({})

    def start_capture(self) -> None:
        """Do nothing."""

    def stop_capture(self) -> None:
        """Do nothing."""


def _without_early_stop(trainer: Any) -> Any:
    """Return the trainer; with several ranks, a view that a Platform thread cannot stop in the middle of an epoch.

    The cancel then takes effect on all ranks when the epoch is complete.
    """
    return _View(trainer, stop=False) if int(trainer.world_size or 0) > 1 else trainer


def _within(seconds: float, work: Callable[[], None], *, finish_at_exit: bool = False) -> bool:
    """Run `work` in a thread and return whether it finished in time; otherwise it continues."""
    thread = Thread(target=work, name="ultralytics-platform", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive() and finish_at_exit:
        atexit.register(thread.join)
    return not thread.is_alive()
