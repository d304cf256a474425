"""The ledger: epochs in, decisions out. The same fold decides live, on a resume and in a replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import Decision, SetFrozen, SetLearningRate, Stop
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.journal import Entry, JournalContent
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.record import EpochRecord, History, Plan


class Ledger:
    """Folds the epochs of a run into the decisions of its callbacks. Pure: it reads and writes nothing outside.

    Args:
        callbacks: Who decides, by label, in order of priority. The mapping is looked at anew for each epoch.
        plan: What the run sets out to do.

    Attributes:
        history: The epochs so far.
        entries: The same with the decisions and counters of each.
        decisions: All decisions so far, in order.
        learning_rate: The factors that they put in force.
        freezing: What they have frozen.

    Example:
        >>> from yolo_callbacks import EarlyStopping
        >>> ledger = Ledger({"EarlyStopping": EarlyStopping(patience=1)}, Plan(planned_epochs=9))
        >>> ledger.begin()
        >>> for epoch, fitness in enumerate([0.2, 0.1], start=1):
        ...     entry = ledger.add(EpochRecord(epoch, {"fitness": fitness}, planned_epochs=9))
        >>> entry.decisions[0].message
        'stop, fitness has not improved for 1 epochs (best: 0.2 in epoch 1)'
    """

    def __init__(self, callbacks: Mapping[str, Callback], plan: Plan) -> None:
        self._callbacks = callbacks
        self.history = History(plan)
        self.entries: list[Entry] = []
        self.decisions: list[Decision] = []
        self.learning_rate = LearningRateState()
        self.freezing = FreezeState()

    def begin(self) -> None:
        """Ask for what should be in force from the first epoch on."""
        self.hear(self._ask())

    def add(self, record: EpochRecord, stops: Iterable[Stop] = ()) -> Entry:
        """Take in the next epoch and decide.

        Args:
            record: The epoch.
            stops: Reasons from outside to stop after it, such as a Ctrl-C; the first is noted where no callback
                stops the run anyway.

        Returns:
            The epoch with what was decided.
        """
        self.history.append(record)
        decisions = self._ask()
        if not record.last and not any(isinstance(decision, Stop) for decision in decisions):
            decisions += tuple(replace(stop, epoch=record.epoch) for stop in stops)[:1]
        counters = {
            f"{name}/{key}": value
            for name, callback in self._callbacks.items()
            for key, value in callback.counters(self.history).items()
        }
        self.entries.append(Entry(record, decisions, counters))
        self.hear(decisions)
        return self.entries[-1]

    @property
    def content(self) -> JournalContent:
        """What the journal has to hold."""
        before = tuple(decision for decision in self.decisions if decision.epoch == 0)
        return JournalContent(self.history.plan, before, self.entries)

    def hear(self, decisions: Iterable[Decision]) -> None:
        """Take note of decisions; a rank that does not decide itself hears of them from the one that does."""
        for decision in decisions:
            self.decisions.append(decision)
            self.learning_rate = self.learning_rate.after(decision)
            self.freezing = self.freezing.after(decision)

    def _ask(self) -> tuple[Decision, ...]:
        """Collect every callback's decisions for the history as it stands."""
        decided: list[Decision] = []
        for name, callback in self._callbacks.items():
            answer = callback.decide(self.history) or ()
            decided += [replace(d, source=name) for d in ((answer,) if isinstance(answer, Decision) else answer)]
        # after the last epoch there is nothing left to stop or to slow down, and nothing that learns
        at_end = bool(self.history) and self.history[-1].last
        stops = not at_end and any(isinstance(decision, Stop) for decision in decided)
        for_the_next = (SetLearningRate, SetFrozen)
        moot = (Stop, *for_the_next) if at_end else for_the_next if stops else ()
        return tuple(decision for decision in decided if not isinstance(decision, moot))
