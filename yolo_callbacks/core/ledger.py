"""The ledger: epochs in, decisions out. Live runs, resumed runs and replays use the same fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from yolo_callbacks.core.decision import Decision, Finish, SetFrozen, SetLearningRate, Stop, StopReason
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.rule import Rule
from yolo_callbacks.support.checks import as_number

InForce = tuple[LearningRateState, FreezeState, FinishState, bool]


class Ledger:
    """Folds the epochs of a run into the decisions of its callbacks. It reads and writes nothing else.

    Args:
        callbacks: The callbacks by label, in order of priority. Later changes of the mapping take effect.
        plan: The plan of the run.
        survive: Called with label, step and error if `counters` fails; unless it raises, the callback's counters are
            left out. None raises the error.

    Attributes:
        history: The epochs so far.
        entries: The epochs so far with their decisions and counters.
        decisions: All decisions so far, in order.
        learning_rate: Their learning-rate factors.
        freezing: The layers that they freeze.
        finishing: Whether they finish the run.
        skips_validation: Whether the next epoch is trained without validation.

    Example:
        >>> from yolo_callbacks import EarlyStopping
        >>> ledger = Ledger({"EarlyStopping": EarlyStopping(patience=1)}, Plan(planned_epochs=9))
        >>> ledger.begin()
        >>> for epoch, fitness in enumerate([0.2, 0.1], start=1):
        ...     entry = ledger.add(EpochRecord(epoch, {"fitness": fitness}, planned_epochs=9))
        >>> entry.decisions[0].message
        'stop, no improvement in fitness for 1 epoch (best: 0.2 in epoch 1)'
    """

    def __init__(
        self,
        callbacks: Mapping[str, Rule],
        plan: Plan,
        survive: Callable[[str, str, Exception], None] | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._survive = survive
        self.history = History(plan)
        self.entries: list[Entry] = []
        self.decisions: list[Decision] = []
        self.learning_rate = LearningRateState()
        self.freezing = FreezeState()
        self.finishing = FinishState()
        self.skips_validation = False

    def begin(self) -> None:
        """Collect the decisions before the first epoch."""
        self.note(self._ask())

    def add(self, record: EpochRecord, stops: Iterable[Stop] = ()) -> Entry:
        """Add the next epoch and decide, as `decide` does.

        Returns:
            The entry of the epoch.
        """
        decisions = self.decide(record, stops)
        self.entries.append(Entry(record, decisions, self._count()))
        return self.entries[-1]

    def _count(self) -> dict[str, float]:
        counters: dict[str, float] = {}
        for name, callback in self._callbacks.items():
            try:
                counted = callback.counters(self.history).items()
                counters |= {f"{name}/{key}": as_number(f"{name}.counters()[{key!r}]", value) for key, value in counted}
            except Exception as error:
                if self._survive is None:
                    raise
                self._survive(name, "counters", error)
        return counters

    def decide(self, record: EpochRecord, stops: Iterable[Stop] = ()) -> tuple[Decision, ...]:
        """Add the next epoch and decide, without an entry for the journal; a replay needs no more.

        Args:
            record: The epoch.
            stops: Stops from outside after this epoch, such as Ctrl-C. The first counts if no callback stops the run.
                The trainer's patience does not count in a run that is finishing.
        """
        self.history.append(record)
        decisions = self._ask()
        if stops and not record.last and not any(isinstance(decision, Stop) for decision in decisions):
            finishes = self.finishing.begun or any(isinstance(decision, Finish) for decision in decisions)
            ignored = StopReason.TRAINER_PATIENCE if finishes else None
            decisions += tuple(replace(s, epoch=record.epoch) for s in stops if s.reason is not ignored)[:1]
        self.note(decisions)
        if self.history.plan.extended_after(record.epoch):
            self.finishing = FinishState()  # the end that was brought forward has been reached
        self.skips_validation = self._may_skip_validation(decisions)
        return decisions

    def _may_skip_validation(self, decisions: Iterable[Decision]) -> bool:
        """Return whether the next epoch need not be validated. The first of a finish is: its plan is a new one."""
        rules = self._callbacks.values()
        if not any(rule.can_skip_validation(self.history) for rule in rules):
            return False
        ends = any(isinstance(decision, (Stop, Finish)) for decision in decisions)
        return not ends and not any(rule.needs_validation(self.history) for rule in rules)

    @property
    def in_force(self) -> InForce:
        """What holds for the next epoch; the ranks above 0 take it over from rank 0."""
        return self.learning_rate, self.freezing, self.finishing, self.skips_validation

    @in_force.setter
    def in_force(self, state: InForce) -> None:
        self.learning_rate, self.freezing, self.finishing, self.skips_validation = state

    @property
    def content(self) -> JournalContent:
        """The content of the journal."""
        before = tuple(decision for decision in self.decisions if decision.epoch == 0)
        return JournalContent(self.history.plan, before, self.entries)

    def note(self, decisions: Iterable[Decision]) -> None:
        """Record decisions and their effects; a rank above 0 records those of rank 0."""
        for decision in decisions:
            self.decisions.append(decision)
            self.learning_rate = self.learning_rate.after(decision)
            self.freezing = self.freezing.after(decision)
            self.finishing = self.finishing.after(decision)

    def _ask(self) -> tuple[Decision, ...]:
        """Return the decisions of all callbacks for the current history."""
        decided: list[Decision] = []
        for name, callback in self._callbacks.items():
            answer = callback.decide(self.history) or ()
            decided += [replace(d, source=name) for d in ((answer,) if isinstance(answer, Decision) else answer)]
        if not decided:
            return ()
        # after the last epoch there is nothing left to stop, slow down or freeze
        at_end = bool(self.history) and self.history[-1].last
        stops = not at_end and any(isinstance(decision, Stop) for decision in decided)
        for_the_next = (Finish, SetLearningRate, SetFrozen)
        moot: tuple[type[Decision], ...] = (Stop, *for_the_next) if at_end else for_the_next if stops else ()
        if self.history.plan.extended_after(self.history.epoch):  # what ended the run here is over
            moot = (Stop, Finish)
        return tuple(self._complete(decision for decision in decided if not isinstance(decision, moot)))

    def _complete(self, decisions: Iterable[Decision]) -> Iterator[Decision]:
        """Fill in epoch and plan; drop every `Finish` but the first, and one that would not shorten the run."""
        begun = self.finishing.begun
        newest = self.history[-1] if self.history else None
        planned = newest.planned_epochs if newest else self.history.plan.planned_epochs
        base_lr = newest.next_base_lr if newest else self.history.plan.base_lr
        for decision in decisions:
            if not isinstance(decision, Finish):
                yield replace(decision, epoch=self.history.epoch)
            elif not begun and not 0 < planned <= decision.end_epoch:
                begun = True
                yield replace(decision, epoch=self.history.epoch, planned_epochs=planned, base_lr=base_lr)
