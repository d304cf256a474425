"""Ending: ends a run in the right order, exactly once, whatever ended it. Rank 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from yolo_callbacks.core.decision import SaveCheckpoint, Stop
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.session.run_files import RunFiles
from yolo_callbacks.session.steps import Steps
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.ranks import is_worker
from yolo_callbacks.trainer.run import Run


class Ending:
    """Closes the callbacks, records in `run.json` how the run ended, and hands over the restored weights.

    Args:
        run: The run.
        files: Its files.
        ledger: Its epochs and decisions.
        steps: The callbacks and their steps.

    Attributes:
        begun: Whether the run has ended.
    """

    def __init__(self, run: Run, files: RunFiles, ledger: Ledger, steps: Steps[Any]) -> None:
        self.begun = False
        self._run, self._files, self._ledger, self._steps = run, files, ledger, steps
        self._failed = False
        self._late_stop: Stop | None = None
        self._restored: tuple[SaveCheckpoint, Path] | None = None

    @property
    def stop(self) -> Stop | None:
        """Why the run ended before its last planned epoch; None while it runs or if it completed its epochs."""
        entries = self._ledger.entries
        return (entries[-1].stop if entries else None) or self._late_stop

    def leave(self, stop: Stop, error: SystemExit, save_as: str) -> NoReturn:
        """Save the weights, end the run, and raise `error`; see `Session.leave`."""
        if not self.begun:
            epoch = self._ledger.history.epoch
            self._late_stop = replace(stop, epoch=epoch)
            self._files.save_now(save_as, stop.reason.value, epoch)
            LOGGER.info(f"{stop.source}: {stop.message}, exiting with code {error.code}")
            self.end(error)
        raise error

    def end(self, error: BaseException | None) -> None:
        """Close the callbacks and record how the run ended. Once."""
        if self.begun:
            return
        self.begun = True
        if error is None:
            self._files.checkpoints.wait()
            history = self._ledger.history
            if self.stop is None and history and not history[-1].last:
                self._late_stop = replace(self._run.why_ended(), epoch=history.epoch)
        try:
            self._steps.close(error)
            if error is None:
                self._restored = self._files.restored(self._ledger.decisions)
                self._files.checkpoints.drop_extended()
        except BaseException as failure:
            error = error or failure
            raise
        finally:
            if error is None:  # a run that has ended is not resumed, so nothing may be missing by then
                self._files.wait(hurry=False)
            self._conclude(error)
            self._files.wait(hurry=isinstance(error, SystemExit))
            self._steps.deliver(error)

    def close(self, error: BaseException | None, *, completed: bool) -> None:
        """Last of all, hand the restored weights to `model.train()` and end the threads.

        Args:
            error: The exception that ended the run, or None.
            completed: Whether the trainer reached its own end.
        """
        self.end(error)
        if error is not None and not self._failed:  # raised after `end`
            self._conclude(error)
        elif completed and self._restored is not None:
            self._hand_over(*self._restored)
        self._files.close()

    def _conclude(self, error: BaseException | None) -> None:
        self._failed = error is not None
        self._files.conclude(self._ledger.history.epoch, self.stop, error)

    def _hand_over(self, decision: SaveCheckpoint, path: Path) -> None:
        """Make `model.train()` load the restored weights."""
        LOGGER.info(f"{decision.source}: restored the weights of epoch {decision.epoch} from {path}")
        if not is_worker():  # the launching process finds it by run.json
            self._run.use_as_result(path)
