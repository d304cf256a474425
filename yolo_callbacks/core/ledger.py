"""The ledger: epochs in, decisions out. The same fold decides live, on a resume and in a replay."""

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


class Ledger:
    """Folds the epochs of a run into the decisions of its callbacks. Pure: it reads and writes nothing outside.

    Args:
        callbacks: Who decides, by label, in order of priority. The mapping is looked at anew for each epoch.
        plan: What the run sets out to do.
        survive: Called with label, step and error where counting fails; what it does not raise is left out. None
            raises all.

    Attributes:
        history: The epochs so far.
        entries: The same with the decisions and counters of each.
        decisions: All decisions so far, in order.
        learning_rate: The factors that they put in force.
        freezing: What they have frozen.
        finishing: Whether they have brought the end forward.

    Example:
        >>> from yolo_callbacks import EarlyStopping
        >>> ledger = Ledger({"EarlyStopping": EarlyStopping(patience=1)}, Plan(planned_epochs=9))
        >>> ledger.begin()
        >>> for epoch, fitness in enumerate([0.2, 0.1], start=1):
        ...     entry = ledger.add(EpochRecord(epoch, {"fitness": fitness}, planned_epochs=9))
        >>> entry.decisions[0].message
        'stop, fitness has not improved for 1 epochs (best: 0.2 in epoch 1)'
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

    def begin(self) -> None:
        """Ask for what should be in force from the first epoch on."""
        self.note(self._ask())

    def add(self, record: EpochRecord, stops: Iterable[Stop] = ()) -> Entry:
        """Take in the next epoch and decide; see `decide`.

        Returns:
            The epoch with what was decided.
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
        """Take in the next epoch and decide, without an entry for the journal: all that a replay needs.

        Args:
            record: The epoch.
            stops: Reasons from outside to stop after it, such as a Ctrl-C; the first is noted where no callback
                stops the run anyway. That the trainer has lost its patience is none in a run that finishes.
        """
        self.history.append(record)
        decisions = self._ask()
        if stops and not record.last and not any(isinstance(decision, Stop) for decision in decisions):
            finishes = self.finishing.begun or any(isinstance(decision, Finish) for decision in decisions)
            ignored = StopReason.TRAINER_PATIENCE if finishes else None
            decisions += tuple(replace(s, epoch=record.epoch) for s in stops if s.reason is not ignored)[:1]
        self.note(decisions)
        return decisions

    @property
    def content(self) -> JournalContent:
        """What the journal has to hold."""
        before = tuple(decision for decision in self.decisions if decision.epoch == 0)
        return JournalContent(self.history.plan, before, self.entries)

    def note(self, decisions: Iterable[Decision]) -> None:
        """Note decisions and what they put in force; a rank above 0 notes those that rank 0 has taken."""
        for decision in decisions:
            self.decisions.append(decision)
            self.learning_rate = self.learning_rate.after(decision)
            self.freezing = self.freezing.after(decision)
            self.finishing = self.finishing.after(decision)

    def _ask(self) -> tuple[Decision, ...]:
        """Collect every callback's decisions for the history as it stands."""
        decided: list[Decision] = []
        for name, callback in self._callbacks.items():
            answer = callback.decide(self.history) or ()
            decided += [replace(d, source=name) for d in ((answer,) if isinstance(answer, Decision) else answer)]
        if not decided:
            return ()
        # after the last epoch there is nothing left to stop or to slow down, and nothing that learns
        at_end = bool(self.history) and self.history[-1].last
        stops = not at_end and any(isinstance(decision, Stop) for decision in decided)
        for_the_next = (Finish, SetLearningRate, SetFrozen)
        moot = (Stop, *for_the_next) if at_end else for_the_next if stops else ()
        return tuple(self._complete(decision for decision in decided if not isinstance(decision, moot)))

    def _complete(self, decisions: Iterable[Decision]) -> Iterator[Decision]:
        """Fill in what the run knows, and leave out any `Finish` but the first, and one that changes nothing."""
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
