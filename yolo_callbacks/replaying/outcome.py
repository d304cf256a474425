"""One rule over one run: epoch by epoch, through the ledger that also decides live."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from yolo_callbacks.core.decision import Decision, Finish, SaveCheckpoint, Stop
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.metrics import UnknownMetricError
from yolo_callbacks.core.record import EpochRecord, History
from yolo_callbacks.replaying.logged_run import LoggedRun
from yolo_callbacks.replaying.rules import Rule
from yolo_callbacks.replaying.search import Skipped
from yolo_callbacks.session.participant import Participant

TOLERANCE = 0.005
"""How far below the best score the second oracle may stop."""

ORACLES = {"oracle: best": 0.0, f"oracle: -{TOLERANCE:g}": TOLERANCE}
"""Hindsight baselines, which know the whole run: name, and how far below the best score they may stop."""


@dataclass(frozen=True)
class Change:
    """A decision that would have changed the training, so that the logged curve no longer applies after it.

    Attributes:
        decision: What it is.
        in_the_run: Whether the run itself made it: then the logged curve does apply.
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
        planned_epochs: Number of planned epochs.
        stop_epoch: The epoch after which it would have ended; None if it would have continued.
        reason: Why, one of `StopReason`, or `"finish"` where its end would have been brought forward; else empty.
        message: The same as a sentence.
        epochs_saved: Number of logged epochs after the stop.
        saved: The same as a share of the logged epochs.
        hours_saved: Hours that they took; None if that is not logged.
        best: The best score of the whole run, 0 if there is none.
        best_epoch: The first epoch with that score, None if there is none.
        lost: `best` minus the best validated score up to the stop; None if that cannot be known.
        validations_skipped: Number of epochs until the stop that would have been trained without validation.
        validations_saved: Share of the logged epochs that would not have been validated.
        changes: Its other decisions that would have changed the training.
        oracle: Whether the rule is a hindsight baseline.
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
    validations_skipped: int = 0
    validations_saved: float = 0.0
    changes: tuple[Change, ...] = ()
    oracle: bool = False

    @property
    def altered(self) -> bool:
        """Whether it would have changed the training before its end."""
        return any(not change.in_the_run for change in self.changes)


def outcomes(run: LoggedRun, rules: Sequence[Rule]) -> Iterator[Outcome | Skipped]:
    """Yield what each rule would have done to a run, or why it cannot be replayed; then the oracles."""
    shared = _SharedHistory(run.plan)
    names = set[str]().union(*(record.metrics for record in run.records))
    replays = [_Replay(rule, run, shared, names) for rule in rules]
    active = [replay for replay in replays if not replay.over]
    for record in run.records:
        for replay in active:
            replay.add(record)
        if any(replay.over for replay in active):
            active = [replay for replay in active if not replay.over]
    judge = _Judge(run)
    yield from (replay.problem or judge.outcome(replay.rule.name, replay.end, replay) for replay in replays)
    yield from judge.oracles()


class _SharedHistory(History):
    """One history for several ledgers in step, so that each fold is computed once for all of them.

    Each ledger appends the same record, which is stored once.
    """

    def append(self, record: EpochRecord) -> None:
        if not self._records or self._records[-1] is not record:
            super().append(record)

    def fork(self) -> History:
        """Return a separate history that continues from here."""
        own = History(self.plan)
        own._records, own._folds = list(self._records), dict(self._folds)
        return own


class _Replay:
    """One rule over one run."""

    def __init__(self, rule: Rule, run: LoggedRun, shared: _SharedHistory, names: set[str]) -> None:
        self.rule = rule
        self.end: Stop | Finish | None = None
        self.changes: list[Change] = []
        self.problem: Skipped | None = None
        self._run, self._shared = run, shared
        self._ledger = Ledger(rule.callbacks, run.plan)
        self._skips = any(
            type(one).can_skip_validation is not Participant.can_skip_validation for one in rule.callbacks.values()
        )
        self._ledger.history = shared.fork() if self._skips else shared
        self._own_rates = False
        self.skipped = set[int]()
        self._live = [_without_wording(decision) for decision in run.decisions]
        try:
            rule.check(names)
            self._ledger.begin()
            self._note(self._ledger.decisions)
        except UnknownMetricError as error:
            self._give_up(error)

    @property
    def over(self) -> bool:
        """Whether later epochs can no longer change the result."""
        return self.end is not None or self.problem is not None

    def add(self, record: EpochRecord) -> None:
        """Add the next epoch."""
        if self._own_rates:
            record = self._with_own_rate(record)
        if self._ledger.skips_validation and record.epoch < self._run.records[-1].epoch:
            self.skipped.add(record.epoch)
            record = replace(record, validated=False, metrics=_without_validation(record.metrics))
        try:
            decisions = self._ledger.decide(record)
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
            self.changes.append(Change(decision, _without_wording(decision) in self._live))
            if isinstance(decision, Finish) and not self.changes[-1].in_the_run:
                self.end = decision
        if self._ledger.learning_rate.touched and not self._own_rates:
            self._own_rates = True
            if not self._skips:
                self._ledger.history = self._shared.fork()

    def _with_own_rate(self, record: EpochRecord) -> EpochRecord:
        """Return the record with the learning-rate factor that a rule with its own rates would see live."""
        rates, lowest = self._ledger.learning_rate, self._run.plan.base_lr
        if not (lowest and record.base_lr):
            return replace(record, lr_factor=math.prod(factor for factor, _ in rates.factors.values()))
        own = record.base_lr / lowest
        return replace(record, lr_factor=rates.apply(own, lowest) / own)

    def _give_up(self, error: Exception) -> None:
        self.problem = Skipped(self._run.name, f"cannot be replayed: {error}", self.rule.name)


class _Judge:
    """Computes what a stop in some epoch would have saved and lost."""

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
        self, rule: str, end: Stop | Finish | None, replay: _Replay | None = None, *, oracle: bool = False
    ) -> Outcome:
        """Return the outcome of an end, and of the validations that a rule has skipped."""
        run, records = self._run, self._run.records
        finishes = isinstance(end, Finish)
        stop_epoch = None if end is None else end.end_epoch if isinstance(end, Finish) else end.epoch
        kept = sum(record.epoch <= stop_epoch for record in records) if stop_epoch is not None else len(records)
        saved = len(records) - kept
        skipped = replay.skipped if replay is not None else set[int]()
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
            lost=None if finishes else self._best - self._best_of(kept, skipped),
            validations_skipped=len(skipped),
            validations_saved=(saved + len(skipped)) / len(records),
            changes=tuple(replay.changes) if replay is not None else (),
            oracle=oracle,
        )

    def _best_of(self, kept: int, skipped: set[int]) -> float:
        """Return the best score of the first epochs, without those whose validation was skipped; 0 for none."""
        if not skipped:
            return self._best_so_far[kept - 1] if kept else 0.0
        pairs = zip(self._run.records[:kept], self._run.scores)
        return max((s for record, s in pairs if record.epoch not in skipped and math.isfinite(s)), default=0.0)

    def oracles(self) -> Iterator[Outcome]:
        """Yield the outcomes of the hindsight baselines; none for a run that stays at 0.

        Hindsight would stop such a run at once, and the figures of the baselines would be about failed runs.
        """
        if self._best_epoch is not None and self._best == 0:
            return
        for rule, tolerance in ORACLES.items():
            good = (r for r, score in zip(self._run.records, self._run.scores) if score >= self._best - tolerance)
            first = next(good, self._run.records[0])  # a run that is all NaN stops at once
            near = f"within {tolerance:g} of the best" if tolerance else "the best of the run"
            stop = Stop(near, first.epoch)
            yield self.outcome(rule, stop, oracle=True)


def _without_validation(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what a training knows of an epoch that it has not validated."""
    return {name: value for name, value in metrics.items() if name.startswith(("train/", "lr/"))}


def _without_wording(decision: Decision) -> Decision:
    """Return a decision without its wording, for comparison."""
    return replace(decision, source="", message="")
