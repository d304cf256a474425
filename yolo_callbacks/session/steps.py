"""Runs the steps of the callbacks, and decides what an error in one means for the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic

from yolo_callbacks.core.record import Plan
from yolo_callbacks.session.participant import Participant, S
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.checks import SettingError
from yolo_callbacks.support.log import LOGGER


class Steps(Generic[S]):
    """The steps of all callbacks of a session, in order of their priority. Rank 0.

    Args:
        session: Passed to each step.
        callbacks: The callbacks by label. The mapping may change between steps.
    """

    def __init__(self, session: S, callbacks: Mapping[str, Participant[S]]) -> None:
        self.session = session
        self.callbacks = callbacks
        self._logged: set[str] = set()

    def setup(self, only: Iterable[Participant[S]] | None = None) -> None:
        """Set up all callbacks, or some of them."""
        chosen = None if only is None else {id(callback) for callback in only}
        self._run("setup", lambda callback: callback.setup(self.session), chosen=chosen)

    def act(self) -> None:
        """Let all callbacks act on a completed epoch."""
        self._run("act", lambda callback: callback.act(self.session))

    def close(self, error: BaseException | None) -> None:
        """Close all callbacks, in reverse order."""
        self._run("close", lambda callback: callback.close(self.session, error), backwards=True)

    def deliver(self, error: BaseException | None) -> None:
        """Let all callbacks deliver the completed files."""
        self._run("deliver", lambda callback: callback.deliver(self.session, error))

    def log_impossible(self, plan: Plan) -> None:
        """Log what cannot happen in a run that goes as planned."""
        for name, callback in self.callbacks.items():
            try:
                for sentence in callback.impossible(plan):
                    LOGGER.info(f"{name}: {sentence}")
            except Exception as error:
                self.failed(name, "impossible", error)

    def _run(
        self,
        step: str,
        call: Callable[[Participant[S]], None],
        *,
        chosen: set[int] | None = None,
        backwards: bool = False,
    ) -> None:
        callbacks = list(self.callbacks.items())
        for name, callback in reversed(callbacks) if backwards else callbacks:
            if chosen is not None and id(callback) not in chosen:
                continue
            try:
                call(callback)
            except Exception as error:
                self.failed(name, step, error)

    def failed(self, name: str, step: str, error: Exception) -> None:
        """Raise the error of a critical callback; log that of another one once, and let the training go on.

        Settings that do not fit the run, such as a metric that it will not have, are a mistake of the user, and raise
        too.
        """
        if self.callbacks[name].critical or (step == "setup" and isinstance(error, SettingError)):
            raise error
        tell_once(self._logged, f"{name}.{step}", error)
