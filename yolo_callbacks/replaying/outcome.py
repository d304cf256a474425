"""A rule over a run: epoch for epoch through the same ledger that decides live."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from yolo_callbacks.core.decision import Decision, Finish, SaveCheckpoint, Stop
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.metrics import UnknownMetricError
from yolo_callbacks.core.record import EpochRecord, History
from yolo_callbacks.replaying.logged_run import LoggedRun
from yolo_callbacks.replaying.rules import Rule
from yolo_callbacks.replaying.search import Skipped

TOLERANCE = 0.005
"""How much worse than the best the second oracle may be."""

ORACLES = {"oracle: best": 0.0, f"oracle: -{TOLERANCE:g}": TOLERANCE}
"""Stops of somebody who knows the whole run: name, and how much worse than the best the score may be."""


@dataclass(frozen=True)
class Change:
    """A decision that would have changed the training, so that the logged curve says nothing of what it leads to.

    Attributes:
        decision: What it is.
        in_the_run: Whether the run itself has done it: then the curve is the one that it leads to.
    """

    decision: Decision
    in_the_run: bool


@dataclass(frozen=True)
class Outcome:
    """What a rule would have done to a run.

    Attributes:
        rule: Name of the rule.
        run: Name of the run.
        source: The file that it was replayed from.
        epochs: Number of logged epochs.
        planned_epochs: Number of epochs that it set out to do.
        stop_epoch: The epoch after which it would have ended; None if it would have gone on.
        reason: Why, one of `StopReason`, or `"finish"` where its end would have been brought forward; else empty.
        message: The same as a sentence.
        epochs_saved: Number of logged epochs after it.
        saved: The same as a share of the logged epochs.
        hours_saved: How long they took; None if that is not logged.
        best: The best score of the whole run, 0 if there is none.
        best_epoch: The epoch that had it first, None if there is none.
        lost: `best` less the best score up to the stop; None where that cannot be known.
        changes: What it would have changed on the way.
        oracle: Whether the rule knows the whole run, for comparison.
    """

    rule: str
    run: str
    source: str
    epochs: int
    planned_epochs: int
    stop_epoch: int | None
    reason: str
    message: str
    epochs_saved: int
    saved: float
    hours_saved: float | None
    best: float
    best_epoch: int | None
    lost: float | None
    changes: tuple[Change, ...] = ()
    oracle: bool = False

    @property
    def altered(self) -> bool:
        """Whether it would have changed the training otherwise than by a stop."""
        return any(not change.in_the_run for change in self.changes)


def outcomes(run: LoggedRun, rules: Sequence[Rule]) -> Iterator[Outcome | Skipped]:
    """Give what each rule would have done to a run, and then the oracles; or why a rule cannot be replayed."""
    shared = _SharedHistory(run.plan)
    names = set[str]().union(*(record.metrics for record in run.records))
    replays = [_Replay(rule, run, shared, names) for rule in rules]
    going = [replay for replay in replays if not replay.over]
    for record in run.records:
        for replay in going:
            replay.add(record)
        if any(replay.over for replay in going):
            going = [replay for replay in going if not replay.over]
    judge = _Judge(run)
    yield from (replay.problem or judge.outcome(replay.rule.name, replay.end, replay.changes) for replay in replays)
    yield from judge.oracles()


class _SharedHistory(History):
    """One history for many ledgers that go side by side: what one of them has folded, the others need not.

    Each of them appends the same record, which counts once.
    """

    def append(self, record: EpochRecord) -> None:
        if not self._records or self._records[-1] is not record:
            super().append(record)

    def fork(self) -> History:
        """Return a history of its own that goes on from here."""
        own = History(self.plan)
        own._records, own._folds = list(self._records), dict(self._folds)
        return own


class _Replay:
    """One rule on its way through one run."""

    def __init__(self, rule: Rule, run: LoggedRun, shared: _SharedHistory, names: set[str]) -> None:
        self.rule = rule
        self.end: Stop | Finish | None = None
        self.changes: list[Change] = []
        self.problem: Skipped | None = None
        self._run, self._shared = run, shared
        self._ledger = Ledger(rule.callbacks, run.plan)
        self._ledger.history = shared
        self._own_rates = False
        self._live = [_bare(decision) for decision in run.decisions]
        try:
            rule.check(names)
            self._ledger.begin()
            self._note(self._ledger.decisions)
        except UnknownMetricError as error:
            self._give_up(error)

    @property
    def over(self) -> bool:
        """Whether nothing more can be said."""
        return self.end is not None or self.problem is not None

    def add(self, record: EpochRecord) -> None:
        """Take in the next epoch."""
        try:
            decisions = self._ledger.decide(self._with_own_rate(record) if self._own_rates else record)
        except UnknownMetricError as error:
            self._give_up(error)
            return
        if decisions:
            self.end = next((decision for decision in decisions if isinstance(decision, Stop)), None)
            self._note(decisions)

    def _note(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, (Stop, SaveCheckpoint)):
                continue
            self.changes.append(Change(decision, _bare(decision) in self._live))
            if isinstance(decision, Finish) and not self.changes[-1].in_the_run:
                self.end = decision
        if self._ledger.learning_rate.touched and not self._own_rates:
            self._own_rates, self._ledger.history = True, self._shared.fork()

    def _with_own_rate(self, record: EpochRecord) -> EpochRecord:
        """Let a rule that has reduced the learning rate see what it made of it, as a live run would."""
        rates, lowest = self._ledger.learning_rate, self._run.plan.base_lr
        if not (lowest and record.base_lr):
            return replace(record, lr_factor=math.prod(factor for factor, _ in rates.factors.values()))
        own = record.base_lr / lowest
        return replace(record, lr_factor=rates.apply(own, lowest) / own)

    def _give_up(self, error: Exception) -> None:
        self.problem = Skipped(self._run.name, f"cannot be replayed: {error}", self.rule.name)


class _Judge:
    """Says what the end of a run in some epoch would have saved and lost."""

    def __init__(self, run: LoggedRun) -> None:
        self._run = run
        self._best_epoch: int | None = None
        self._best = 0.0
        self._best_so_far: list[float] = []
        for record, score in zip(run.records, run.scores):
            if math.isfinite(score) and (self._best_epoch is None or score > self._best):
                self._best, self._best_epoch = score, record.epoch
            self._best_so_far.append(self._best)

    def outcome(
        self, rule: str, end: Stop | Finish | None, changes: Sequence[Change] = (), *, oracle: bool = False
    ) -> Outcome:
        """Return what comes of an end."""
        run, records = self._run, self._run.records
        finishes = isinstance(end, Finish)
        stop_epoch = None if end is None else end.end_epoch if isinstance(end, Finish) else end.epoch
        kept = sum(record.epoch <= stop_epoch for record in records) if stop_epoch is not None else len(records)
        saved = len(records) - kept
        elapsed = records[-1].elapsed - (records[kept - 1].elapsed if kept else 0.0)
        return Outcome(
            rule=rule,
            run=run.name,
            source=run.source,
            epochs=len(records),
            planned_epochs=records[-1].planned_epochs,
            stop_epoch=stop_epoch,
            reason="" if end is None or oracle else end.reason.value if isinstance(end, Stop) else end.kind,
            message="" if end is None else end.message,
            epochs_saved=saved,
            saved=saved / len(records),
            hours_saved=max(0.0, elapsed) / 3600 if run.timed else None,
            best=self._best,
            best_epoch=self._best_epoch,
            lost=None if finishes else self._best - (self._best_so_far[kept - 1] if kept else 0.0),
            changes=tuple(changes),
            oracle=oracle,
        )

    def oracles(self) -> Iterator[Outcome]:
        """Give what could be had at best by somebody who knows the whole run."""
        for rule, tolerance in ORACLES.items():
            good = (r for r, score in zip(self._run.records, self._run.scores) if score >= self._best - tolerance)
            first = next(good, self._run.records[0])  # of a run that is all NaN nothing is worth waiting for
            near = f"within {tolerance:g} of the best" if tolerance else "the best of the run"
            stop = Stop(near, first.epoch)
            yield self.outcome(rule, stop, oracle=True)


def _bare(decision: Decision) -> Decision:
    """Return a decision without what may be said in other words."""
    return replace(decision, source="", message="")
