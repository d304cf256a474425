"""Ultralytics' own integrations, kept from failing a training, and the Platform from holding it up. For `run.py` alone.

Any of them may raise: MLflow's does on the ranks above 0, whose trainers have no metrics. An exception is told once,
and the training goes on. Ray Tune's is left alone: it is what runs the trial.

The Platform's functions survive a connection that fails, but not every answer: an upload without `uploadUrl`, a
`modelId` that is not a string, a list in place of an object, an earlier upload that had failed, or a disk that refuses
the file with the model's id raise out of `train()`. Two of them wait for the server on the training thread, for minutes
if it does not answer. On several GPUs, a cancel ends the epoch on one rank alone, and the others wait for it in vain.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import HIDDEN, hide

START_SECONDS = 20.0
"""The longest that a run waits to be registered on the Platform; Ultralytics itself tries for two minutes."""

END_SECONDS = 60.0
"""The longest that `train()` waits for the last upload, which then goes on in the background until the process ends."""

WHO = "Ultralytics Platform"

_PACKAGE = "ultralytics.utils.callbacks"
_NONE, _PLATFORM = "base", "platform"  # of the modules in it: functions that do nothing, before all others
_NAMES = {
    "clearml": "ClearML",
    "comet": "Comet",
    "dvc": "DVCLive",
    "mlflow": "MLflow",
    "tensorboard": "TensorBoard",
    "wb": "Weights & Biases",
}
_MAY_RAISE = ("raytune",)
_TELLS_URLS = ("platform", "uploads")  # modules of Ultralytics that log what the server's answer is about
_SIGNED_PATH = re.compile(r"(with url: [^\s?]*\?)[^\s)]+")
_SHORTEST_KEY = 8  # a shorter one would be found in text that has nothing to do with it


def guard_integrations(trainer: Any) -> None:
    """Guard the integrations' functions of a trainer, in the very lists that they are in. Guarded ones are left alone.

    Args:
        trainer: The trainer; its lists of functions may be in use at the moment.
    """
    guards: dict[str, _Guard] = {}
    for event, functions in trainer.callbacks.items():
        for index in range(len(functions)):
            function = functions[index]
            name = _integration(function)
            if name and name not in _MAY_RAISE and not isinstance(function, _Guarded):
                guard = guards.setdefault(name, _PlatformGuard() if name == _PLATFORM else _Guard(_who(name)))
                functions[index] = _Guarded(event, function, guard)
    if _PLATFORM in guards:
        _hide_key()


def is_cancelled(trainer: Any) -> bool:
    """Return whether the run was cancelled from the Platform."""
    state = _state(trainer)
    return bool(state and state.get("cancelled"))


def platform_model(trainer: Any) -> dict[str, str]:
    """Return the id of the run's model on the Platform, and its address where that is known; empty if it has none."""
    state = _state(trainer) or {}
    return {key: str(state[key]) for key in ("model_id", "model_url") if state.get(key)}


def integrations(trainer: Any) -> tuple[str, ...]:
    """Return which of Ultralytics' integrations take the metrics of an epoch, such as `platform` and `wb`."""
    names = dict.fromkeys(_integration(function) for function in trainer.callbacks["on_fit_epoch_end"])
    return tuple(name for name in names if name and (name != _PLATFORM or _state(trainer)))


def before_integrations(functions: list[Any]) -> int:
    """Return the place in a list of functions that is before the first one of an integration, or its end."""
    return next((index for index in range(len(functions)) if _integration(functions[index])), len(functions))


def release_console(trainer: Any) -> None:
    """Give the process its own output back, which older versions of Ultralytics keep after an exception."""
    console = (_state(trainer) or {}).get("console_logger")
    if console is not None:
        console.stop_capture()


def _integration(function: Any) -> str:
    """Return the name of the integration that a function is of, its module's; empty for none."""
    package, _, name = str(getattr(function, "__module__", "")).rpartition(".")
    return name if package == _PACKAGE and name != _NONE else ""


def _who(name: str) -> str:
    return f"Ultralytics' {_NAMES.get(name, name)} integration"


def _state(trainer: Any) -> dict[str, Any] | None:
    state = getattr(trainer, "platform", None)
    return state if isinstance(state, dict) else None


class _Guarded:
    """An integration's function, guarded; equal to it, so that it can be found and removed as before."""

    def __init__(self, event: str, function: Callable[[Any], Any], guard: _Guard) -> None:
        self._event, self._function, self._guard = event, function, guard
        self.__module__ = function.__module__

    def __call__(self, source: Any) -> None:
        self._guard.call(self._event, self._function, source)

    def __eq__(self, other: object) -> bool:
        return bool(self._function == (other._function if isinstance(other, _Guarded) else other))

    def __hash__(self) -> int:
        return hash(self._function)


class _Guard:
    """Calls the functions of one integration for one trainer, and the validators of it.

    Args:
        who: What to call it.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._told: set[tuple[str, str]] = set()

    def call(self, event: str, function: Callable[[Any], Any], source: Any) -> None:
        """Call a function for an event."""
        self.attempt(function, source, event)

    def attempt(self, function: Callable[[Any], Any], source: Any, what: str, outcome: str = "") -> bool:
        """Call a function; tell of an exception of its kind once, and return whether there was none."""
        try:
            function(source)
        except Exception as error:
            kind = type(error).__name__
            if (what, kind) not in self._told:
                self._told.add((what, kind))
                sentence = f"{self._who}: {what} failed, {outcome or 'training goes on'}: {kind}: {error}"
                LOGGER.warning(hide(sentence, _keys()))
            return False
        return True


class _PlatformGuard(_Guard):
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
            self.attempt(function, _alike(source), event)

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
        state, trainer.platform = _state(trainer), None
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
        state = _state(trainer)
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


def _alike(trainer: Any) -> Any:
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


# ---------------------------------------------------------------------------------------------------- the key


def _keys() -> list[str]:
    """Return the API key as it may stand in a text; none if there is none."""
    from ultralytics.utils import SETTINGS

    key = os.getenv("ULTRALYTICS_API_KEY") or SETTINGS.get("api_key") or ""
    written = dict.fromkeys((key, key.strip(), repr(key)[1:-1]))
    return [word for word in written if len(word) >= _SHORTEST_KEY]


class _WithoutKey(logging.Filter):
    """Takes the key, and the signature of an upload's URL, out of what Ultralytics logs.

    An HTTP library quotes a header that it refuses, such as that of a key with a line break at its end.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything through."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit: logging itself tells of that
            return True
        shown = _replaced(text, _keys())
        if record.module in _TELLS_URLS:
            shown = _SIGNED_PATH.sub(rf"\g<1>{HIDDEN}", hide(shown))
        if shown != text:
            record.msg, record.args = shown, None
        return True


def _replaced(text: str, words: Iterable[str]) -> str:
    for word in words:
        text = text.replace(word, HIDDEN)
    return text


def _hide_key() -> None:
    """Keep the key out of the log for the rest of the process: the Platform's threads live as long."""
    logger = logging.getLogger("ultralytics")
    if not any(isinstance(item, _WithoutKey) for item in logger.filters):
        logger.addFilter(_WithoutKey())
