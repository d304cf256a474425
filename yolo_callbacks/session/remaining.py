"""The time that is left of a run: for callbacks, in the log, and in `run.json`. Rank 0."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from yolo_callbacks.core.eta import Eta, time_left
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.rule import Rule
from yolo_callbacks.run_dir.manifest import ISO
from yolo_callbacks.session.run_files import RunFiles
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.run import Run

_MILESTONES = (0.1, 0.25, 0.5, 0.75, 0.9)  # shares of the planned epochs after which it is logged
_FIRST = 2  # epochs; the first one is no measure for the others
_WORTH_TELLING = 60.0  # seconds left; less needs no line
_REFRESH = 10.0  # seconds between two updates of run.json


def estimate(run: Run, ledger: Ledger, rules: Collection[Rule]) -> Eta | None:
    """Return the time that is left after the newest epoch and its decisions; None before the first epoch.

    Args:
        run: The run.
        ledger: Its epochs and decisions.
        rules: Its callbacks.
    """
    history = ledger.history
    end = history.epoch if run.stopping else ledger.finishing.end(run.planned_epochs)
    plan = replace(history.plan, planned_epochs=end)
    own = 0 < plan.trainer_patience < end
    # no plateau ends a run that is finishing
    may_stop = not ledger.finishing.begun and (own or any(rule.may_stop(plan) for rule in rules))
    known = (rule.validations(history, end) for rule in rules)
    return time_left(
        history,
        end,
        images=run.images_per_epoch,
        seconds_to_limit=run.seconds_to_limit,
        may_stop=may_stop,
        validations=next((number for number in known if number is not None), None),
    )


def as_json(eta: Eta | None) -> dict[str, Any] | None:
    """Return an estimate as `run.json` and `heartbeat.json` have it: its seconds, `at_most`, and when that is."""
    if eta is None:
        return None
    return {"seconds": round(eta.seconds, 1), "at_most": eta.at_most, "ends": clock_in(eta.seconds, ISO)}


def clock_in(seconds: float, form: str) -> str:
    """Return the local time some seconds from now, in a form of `time.strftime`."""
    return time.strftime(form, time.localtime(time.time() + seconds))


class Remaining:
    """Logs the time that is left now and then, and keeps it in `run.json`.

    Args:
        run: The run.
        files: Its files.
        ledger: Its epochs and decisions.
        rules: Its callbacks by label.
    """

    def __init__(self, run: Run, files: RunFiles, ledger: Ledger, rules: Any) -> None:
        self._run, self._files, self._ledger, self._rules = run, files, ledger, rules
        self._written = -math.inf
        self._logged: set[str] = set()

    def tell(self) -> None:
        """Tell after an epoch how much time is left. Never raises: a `may_stop` may be a user's."""
        try:
            eta = estimate(self._run, self._ledger, self._rules.values()) if self._ledger.history else None
            if eta is not None:
                self._tell(eta)
        except Exception as error:
            tell_once(self._logged, "the estimate of the time that is left", error)

    def _tell(self, eta: Eta) -> None:
        if time.monotonic() - self._written >= _REFRESH:
            self._written = time.monotonic()
            self._files.manifest.update(eta=as_json(eta))
        if self._run.verbose and eta.seconds >= _WORTH_TELLING and self._is_time():
            epochs = f"{self._ledger.history.epoch} of {self._ledger.finishing.end(self._run.planned_epochs)}"
            until = clock_in(eta.seconds, "%Y-%m-%d %H:%M")
            LOGGER.info(f"Epoch {epochs}: {eta} left, until {until}")

    def _is_time(self) -> bool:
        """Whether this epoch is one to log it after: an early one, a share of the run, or the start of a finish."""
        ledger, epoch, planned = self._ledger, self._ledger.history.epoch, self._run.planned_epochs
        finish = ledger.finishing.decision
        if finish is not None and finish.epoch == epoch:
            return True
        return epoch == _FIRST or any((epoch - 1) / planned < share <= epoch / planned for share in _MILESTONES)
