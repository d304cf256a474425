"""Entry: one epoch of a run and the decisions after it, as one line of the journal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yolo_callbacks.core.decision import Decision, Stop
from yolo_callbacks.core.metrics import direction
from yolo_callbacks.core.record import EpochRecord, Plan, plan_to_json, record_to_json
from yolo_callbacks.support.numbers import encode_number

FORMAT = 1
"""Version of the journal's format; a reader refuses a higher one."""
EXTENDED_FORMAT = 2
"""Version of the header of an extended run, which older readers would misread."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal: an epoch, the decisions after it, and the counters."""

    record: EpochRecord
    decisions: tuple[Decision, ...] = ()
    counters: Mapping[str, float] | None = None

    @property
    def stop(self) -> Stop | None:
        """The decision that ended the run after this epoch; None if the run continued."""
        return next((decision for decision in self.decisions if isinstance(decision, Stop)), None)

    @property
    def numbers(self) -> dict[str, float]:
        """Every number of the epoch, for loggers: metrics, learning rates, `lr_factor`, measures, counters."""
        record = self.record
        return {**record.metrics, "lr_factor": record.lr_factor, **record.measures, **(self.counters or {})}

    def to_row(self) -> dict[str, Any]:
        """Return the entry as one flat row: what `epochs.csv` and `Attachment.history` show."""
        record = self.record
        return {
            "epoch": record.epoch,
            **record.metrics,
            "lr_factor": record.lr_factor,
            **record.measures,
            "elapsed": record.elapsed,
            "validated": record.validated,
            **(self.counters or {}),
            "event": "; ".join(f"{d.source}: {d.label}" for d in self.decisions if d.label),
        }

    def to_line(self) -> str:
        """Return the entry as one line of strict JSON."""
        data = {
            "format": FORMAT,
            "record": record_to_json(self.record),
            "decisions": [decision.to_json() for decision in self.decisions],
            "counters": encode_number(dict(self.counters or {})),
        }
        return json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class JournalContent:
    """What a journal holds.

    Attributes:
        plan: The plan of the run.
        before: The decisions before the first epoch.
        entries: The epochs in order.
        pending: An epoch that was measured but not decided when the process died; None if there is none.
    """

    plan: Plan
    before: tuple[Decision, ...]
    entries: list[Entry]
    pending: EpochRecord | None = None

    @property
    def decisions(self) -> list[Decision]:
        """All decisions, in order."""
        return [*self.before, *(decision for entry in self.entries for decision in entry.decisions)]

    def to_text(self) -> str:
        """Return the whole journal as text."""
        before = [decision.to_json() for decision in self.before]
        number = EXTENDED_FORMAT if self.plan.extensions else FORMAT
        header = json.dumps({"format": number, "plan": plan_to_json(self.plan), "decisions": before}) + "\n"
        return header + "".join(entry.to_line() for entry in self.entries)


def best_fitness(entries: Iterable[Entry]) -> tuple[int, float] | None:
    """Return the first epoch with the best fitness, and this fitness; None if it is 0 or was never measured."""
    values = [(entry.record.metrics.get("fitness", math.nan), -entry.record.epoch) for entry in entries]
    finite = [pair for pair in values if math.isfinite(pair[0])]
    if not finite or direction("fitness") != "max" or max(finite)[0] == 0:
        return None
    value, epoch = max(finite)
    return -epoch, value
