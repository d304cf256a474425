"""MainRank: what rank 0 does for all ranks. It resumes the run, decides, and writes the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from yolo_callbacks.core.decision import Decision, SaveCheckpoint, Stop, is_announced
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.core.naming import JOURNAL
from yolo_callbacks.session.ending import Ending
from yolo_callbacks.session.measuring import Measuring
from yolo_callbacks.session.remaining import Remaining
from yolo_callbacks.session.resuming import extensions_of, known_checkpoints, take_up
from yolo_callbacks.session.run_files import RunFiles
from yolo_callbacks.session.steps import Steps
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.run import Run


class MainRank:
    """Rank 0's part of a run.

    Args:
        run: The run.
        steps: The callbacks and their steps.
        measuring: Builds the record of an epoch.

    Attributes:
        ledger: Epochs and decisions.
        files: The run's files.
        ending: How the run ends.
        extension: The newest extension of the run; None if it has none.
        over_before: Why a resumed run had already ended, None if it continues.
        remaining: Tells the time that is left.
    """

    def __init__(self, run: Run, steps: Steps[Any], measuring: Measuring[Any]) -> None:
        self._run, self._steps, self._measuring = run, steps, measuring
        extensions = extensions_of(run, run.save_dir / JOURNAL)
        self.extension = extensions[-1] if extensions else None
        run.extend(self.extension)
        self.ledger = Ledger(steps.callbacks, replace(run.plan(), extensions=extensions), steps.failed)
        self.ledger.begin()
        self.files = RunFiles(run, known_checkpoints(run))
        self.ending = Ending(run, self.files, self.ledger, steps)
        self.over_before: Stop | None = None
        self.remaining = Remaining(run, self.files, self.ledger, steps.callbacks)

    def take_up(self, facts: Mapping[str, Any]) -> None:
        """Resume an interrupted run, or begin a new one.

        Args:
            facts: Further fields for `run.json`.
        """
        ledger, files, plan = self.ledger, self.files, self.ledger.history.plan
        self.over_before = take_up(self._run, ledger, files.journal.path, files.checkpoints)
        files.journal.begin(ledger.content)
        files.manifest.update(
            **self._run.describe(),
            **facts,
            callbacks=configuration(self._steps.callbacks),
            checkpoints=files.checkpoints.stored,
            **({"extensions": [asdict(item) for item in plan.extensions]} if plan.extensions else {}),
        )
        if plan.extended_after(ledger.history.epoch):
            LOGGER.info(f"{self._run.save_dir} is {self.extension}")
        if ledger.entries:
            files.list_decisions(ledger.decisions)  # also those before the first epoch
        else:
            self.carry_out(ledger.decisions)

    def announce(self) -> None:
        """Announce the epoch before the trainer replaces `last.pt`, so that the journal is never behind."""
        if self._run.epoch_is_open and self.ledger.history.epoch < self._run.epoch:
            self.files.journal.announce(self._measuring.record(self.ledger.learning_rate, complete=False))

    def decide(self, take_request: Callable[[], Stop | None]) -> tuple[Decision, ...]:
        """Build the epoch's record, get the decisions, and write both to the journal.

        Args:
            take_request: Returns the stop requested during the epoch, or None.
        """
        record = self._measuring.record(self.ledger.learning_rate)
        stops = [stop for stop in (take_request(), self._run.why_stopping()) if stop is not None]
        entry = self.ledger.add(record, stops)
        self.files.journal.append(entry, lambda: self.ledger.content)
        return entry.decisions

    def carry_out(self, decisions: Iterable[Decision]) -> None:
        """Carry out decisions on disk, and log them."""
        decisions = tuple(decisions)
        for decision in decisions:
            if isinstance(decision, SaveCheckpoint):
                self.files.checkpoints.keep(decision)
            source = self._steps.callbacks.get(decision.source)  # none for a stop from outside
            if is_announced(decision) and (source is None or source.verbose):
                LOGGER.info(f"{decision.source}: epoch {decision.epoch}: {decision.message}")
        self.files.list_decisions(decisions)

    def before_stripping(self) -> bool:
        """Prepare for the stripping of `last.pt` and `best.pt`; return whether they may be stripped."""
        self._run.unpublish()
        self.files.checkpoints.wait()
        return self.files.checkpoints.keep_originals()
