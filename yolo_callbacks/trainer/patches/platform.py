"""Keeps Ultralytics' Platform integration from failing a training, and from holding it up.

Changed: how the Platform's functions are called. `guarded_integrations.py` puts `PlatformGuard` around them.
Why: they survive a connection that fails, but not every answer. An upload without `uploadUrl`, a `modelId` that is not
a string, a list in place of an object, an earlier upload that failed, or a disk that refuses the file with the model's
id raise out of `train()`. Two of them wait for the server on the training thread, for minutes if it does not answer.
On several GPUs, a cancel ends the epoch on one rank alone, and the others wait for it in vain.
Undone: never; the functions are those of this trainer alone. `release_console` gives the process its output back.
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
"""The longest that a run waits to be registered on the Platform; Ultralytics itself tries for two minutes."""

END_SECONDS = 60.0
"""The longest that `train()` waits for the last upload, which then goes on in the background until the process ends."""

WHO = "Ultralytics Platform"


def is_cancelled(trainer: Any) -> bool:
    """Return whether the run was cancelled from the Platform."""
    state = platform_state(trainer)
    return bool(state and state.get("cancelled"))


def platform_model(trainer: Any) -> dict[str, str]:
    """Return the id of the run's model on the Platform, and its address where that is known; empty if it has none."""
    state = platform_state(trainer) or {}
    return {key: str(state[key]) for key in ("model_id", "model_url") if state.get(key)}


def release_console(trainer: Any) -> None:
    """Give the process its own output back, which older versions of Ultralytics keep after an exception."""
    console = (platform_state(trainer) or {}).get("console_logger")
    if console is not None:
        console.stop_capture()


def platform_state(trainer: Any) -> dict[str, Any] | None:
    """Return what the Platform's integration keeps of the run on the trainer; None if it is off."""
    state = getattr(trainer, "platform", None)
    return state if isinstance(state, dict) else None


class PlatformGuard(Guard):
    """Calls the Platform's functions for one trainer."""

    def __init__(self) -> None:
        super().__init__(WHO)

    def call(self, event: str, function: Callable[[Any], Any], source: Any) -> None:
        """Call a function for an event; at the start and at the end, wait for it no longer than is reasonable."""
        if event == "on_pretrain_routine_start":
            self.register(function, source)
        elif event == "on_train_end":
            self.finish(function, source)
        else:
            self.attempt(function, _without_early_stop(source), event)

    def register(self, function: Callable[[Any], Any], trainer: Any) -> None:
        """Let a run be registered, for a while; the run goes on without the Platform where that fails."""
        done: list[bool] = []

        # a cancel that comes with the answer is in the state as well, and is put in force when the trainer is set up
        def work() -> None:
            view = _View(trainer, stop=False)
            done.append(self.attempt(function, view, "registering the run", "it is not tracked"))

        in_time = False
        try:
            in_time = _within(START_SECONDS, work)
        finally:  # whoever presses Ctrl-C does not want to be captured later on
            if not in_time or not done[0]:
                self._do_without(trainer)
        if not in_time:
            LOGGER.warning(f"{WHO}: no answer within {START_SECONDS:g} s, the run is not tracked")

    def _do_without(self, trainer: Any) -> None:
        """Let nothing more be sent, also if the run is registered after all."""
        state, trainer.platform = platform_state(trainer), None
        if state is not None and state.get("console_logger"):
            console, state["console_logger"] = state["console_logger"], _NoConsole()
            console.stop_capture()

    def finish(self, function: Callable[[Any], Any], trainer: Any) -> None:
        """Let the model and the results be sent, for a while; the results also where the model cannot be."""
        nowhere = Path(trainer.save_dir) / "weights" / "not uploaded.pt"

        def work() -> None:
            self._settle_earlier_upload(trainer)
            if not self.attempt(function, trainer, "uploading the model", "the results are sent without it"):
                self.attempt(function, _View(trainer, best=nowhere, last=nowhere), "sending the results")

        if not _within(END_SECONDS, work, finish_at_exit=True):
            LOGGER.warning(f"{WHO}: the upload takes longer than {END_SECONDS:g} s and goes on in the background")

    def _settle_earlier_upload(self, trainer: Any) -> None:
        """Wait for an upload of before; that it failed is no reason not to upload the finished model."""
        state = platform_state(trainer)
        upload = state and state.get("checkpoint_upload")
        if state and upload and not self.attempt(lambda _: upload.result(), trainer, "uploading a checkpoint"):
            state["checkpoint_upload"] = None


class _View:
    """A trainer with some attributes of its own, which cannot be set."""

    def __init__(self, trainer: Any, **own: Any) -> None:
        vars(self).update(own, _trainer=trainer, _own=frozenset(own))

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_trainer"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in vars(self)["_own"]:
            setattr(vars(self)["_trainer"], name, value)


class _NoConsole:
    """Stands in for a capture of the console that must not begin any more."""

    progress_sent: Mapping[str, str] = MappingProxyType({})

    def start_capture(self) -> None:
        """Do nothing."""

    def stop_capture(self) -> None:
        """Do nothing."""


def _without_early_stop(trainer: Any) -> Any:
    """Return the trainer; with several ranks one that a thread of the Platform cannot stop in the middle of an epoch.

    The cancel is then in force on all ranks when the epoch is complete.
    """
    return _View(trainer, stop=False) if int(trainer.world_size or 0) > 1 else trainer


def _within(seconds: float, work: Callable[[], None], *, finish_at_exit: bool = False) -> bool:
    """Do something in a thread and return whether it was done in time; else it goes on."""
    thread = Thread(target=work, name="ultralytics-platform", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive() and finish_at_exit:
        atexit.register(thread.join)
    return not thread.is_alive()
