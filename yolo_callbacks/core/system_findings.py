"""What limits a run, and which memory grows, from what `SystemMonitor` has measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from yolo_callbacks.core.findings import Finding
from yolo_callbacks.core.memory_growth import GROWING, Memory, growth
from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.core.time_limits import RECENT, Times, limits, times_of

_WORSE = 0.15  # by how much a share must rise to be told again
_FASTER = 2.0  # how many times faster a memory must grow to be told again


@dataclass(frozen=True)
class SystemState:
    """What has been found so far.

    Attributes:
        findings: The newest finding of each kind that was worth telling, in the order of their first appearance.
        recent: The last measured epochs, without the first one of the run, which starts workers and fills caches; None
            before it.
        memories: The last epochs of each memory.
    """

    findings: Mapping[str, Finding] = field(default_factory=dict)
    recent: tuple[Times, ...] | None = None
    memories: Mapping[str, Memory] = field(default_factory=dict)

    def told_in(self, epoch: int) -> list[Finding]:
        """Return what there is to tell after an epoch."""
        return [finding for finding in self.findings.values() if finding.epoch == epoch]


@dataclass(frozen=True)
class SystemFold:
    """Judges the last epochs after each one, and tells each kind of finding once, and again if it gets worse.

    Example:
        >>> from yolo_callbacks.core.record import History
        >>> slow = {"system/data_seconds": 6.0, "system/step_seconds": 4.0}
        >>> history = History(Plan(), [EpochRecord(epoch, slow) for epoch in range(1, 5)])
        >>> history.fold(SystemFold()).findings["data"].message.partition(":")[0]
        '60 % of the training time went into waiting for data (6.0 of 10.0 s per epoch)'
    """

    def initial(self, plan: Plan) -> SystemState:
        """Return the state before the first epoch."""
        return SystemState()

    def step(self, state: SystemState, record: EpochRecord) -> SystemState:
        """Return the state after one more epoch."""
        recent, times = state.recent, times_of(record)
        found: list[Finding] = []
        if times is not None:
            recent = () if recent is None else (*recent, times)[-RECENT:]
            found += limits(recent, record)
        memories = dict(state.memories)
        for name in GROWING:
            value = record.metrics.get(name, math.nan)
            if math.isfinite(value):
                memories[name] = memories.get(name, Memory()).after(record.epoch, value)
                found += growth(name, memories[name], record)
        return SystemState(_after(state.findings, found), recent, memories)


def _after(told: Mapping[str, Finding], found: Iterable[Finding]) -> dict[str, Finding]:
    findings = dict(told)
    for finding in found:
        if finding.kind not in findings or _is_worse(findings[finding.kind], finding):
            findings[finding.kind] = finding
    return findings


def _is_worse(before: Finding, now: Finding) -> bool:
    return now.level >= (_FASTER * before.level if now.kind in GROWING else before.level + _WORSE)
