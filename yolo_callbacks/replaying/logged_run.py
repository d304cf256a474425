"""A run read from its logs, as the records that the live training had."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from yolo_callbacks.core.decision import Decision
from yolo_callbacks.core.entry import JournalContent
from yolo_callbacks.core.record import EpochRecord, Plan, warm_up
from yolo_callbacks.replaying.arguments import Arguments, read_arguments
from yolo_callbacks.replaying.search import JOURNAL, LogFiles
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.run_dir.results_log import Row, UnusableError, read_results_log, score_keys

_RATE_TOLERANCE = 0.02  # relative difference allowed between a logged learning rate and the schedule


@dataclass(frozen=True)
class LoggedRun:
    """A run that can be replayed.

    Attributes:
        name: What to call it.
        source: `journal.jsonl` or `results.csv`, or whatever the file is called.
        plan: What was planned.
        records: Its epochs, at least one of them validated.
        scores: The score of each epoch, see `ReplayReport`; NaN for an epoch without validation.
        timed: Whether its log has the time of each epoch.
        arguments_known: Whether its arguments are recorded; if not, Ultralytics' defaults are used.
        decisions: What its callbacks decided, if recorded.
    """

    name: str
    source: str
    plan: Plan
    records: Sequence[EpochRecord]
    scores: Sequence[float]
    timed: bool
    arguments_known: bool
    decisions: Collection[Decision] = ()


def read_run(files: LogFiles) -> LoggedRun:
    """Read a run, from its journal if it has one.

    Raises:
        UnusableError: If its logs hold nothing to replay.
        OSError: If they cannot be read.
    """
    journal = _journal(files)
    if journal is None:
        assert files.results is not None  # a run has a journal, a results.csv, or both
        return _from_results(files, files.results)
    # the factor of the run's own callbacks must not leak into the replay of others
    written = [replace(entry.record, lr_factor=1.0) for entry in journal.entries]
    records = sorted([*written, *_missing_from_journal(files, written)], key=lambda record: record.epoch)
    return LoggedRun(
        files.name,
        JOURNAL.name,
        journal.plan,
        records,
        _scores(record.metrics for record in records),
        timed=True,
        arguments_known=True,
        decisions=journal.decisions,
    )


def _journal(files: LogFiles) -> JournalContent | None:
    """Return the journal of a run; None if it has no validated epoch or cannot be read.

    Raises:
        UnusableError: If there is no `results.csv` to use instead.
    """
    if files.journal is None:
        return None
    try:
        content = read_journal(files.journal)
        reason = "has no validated epoch" if content.plan.planned_epochs else "has no line with the plan of the run"
    except ValueError as error:
        content, reason = None, f"cannot be read: {error}"
    planned = content is not None and content.plan.planned_epochs > 0
    if planned and content is not None and any(entry.record.validated for entry in content.entries):
        return content
    if files.results is None:
        raise UnusableError(reason)
    return None


def _missing_from_journal(files: LogFiles, written: Sequence[EpochRecord]) -> list[EpochRecord]:
    """Return the epochs that only Ultralytics has logged: before callbacks were attached, or after they were gone."""
    if files.results is None:
        return []
    try:
        records = _from_results(files, files.results).records
    except (UnusableError, OSError):
        return []
    known = {record.epoch for record in written}
    return [record for record in records if record.epoch not in known]


def _scores(metrics: Iterable[Mapping[str, float]]) -> list[float]:
    """Return the score of each epoch."""
    epochs = list(metrics)
    keys = score_keys(max((tuple(epoch) for epoch in epochs), key=len))
    return [sum(epoch.get(key, math.nan) for key in keys) / len(keys) if keys else math.nan for epoch in epochs]


def _from_results(files: LogFiles, path: Path) -> LoggedRun:
    """Read a run from a `results.csv` and the arguments beside it."""
    log = read_results_log(path)
    classifies = any("metrics/accuracy_top1" in row.metrics for row in log.rows)
    arguments = read_arguments(files.folder, classifies=classifies, yolov5=log.yolov5)
    planned = max(arguments.epochs or 0, log.rows[-1].epoch)
    rate = _base_rate(log.rows, arguments, planned)
    rates = [rate(row) for row in log.rows]
    records = [
        EpochRecord(
            row.epoch,
            row.metrics,
            validated=row.validated,
            planned_epochs=planned,
            last=row.epoch >= planned,
            base_lr=base_lr,
            next_base_lr=next_lr,
            elapsed=row.elapsed,
        )
        for row, (base_lr, next_lr) in zip(log.rows, pairwise([*rates, None]))
    ]
    highest = max((value for value in rates if value is not None), default=None)
    plan = Plan(
        planned_epochs=planned,
        base_lr=rates[0],
        final_lr=None if highest is None else highest * arguments.lrf,
        trainer_patience=arguments.patience,
        warmup_epochs=warm_up(arguments.warmup_epochs, planned),
        close_mosaic=arguments.close_mosaic,
    )
    scores = _scores(row.metrics for row in log.rows)
    return LoggedRun(files.name, path.name, plan, records, scores, log.timed, arguments.known)


def _base_rate(rows: Sequence[Row], arguments: Arguments, planned: int) -> Callable[[Row], float | None]:
    """Return the function from an epoch to its scheduled rate, of the group with the lowest one.

    The log has the rates in effect, including the warm-up. If those after the warm-up follow the schedule of the
    arguments, that schedule is returned; else, the logged rates.
    """
    keys = [name for name in rows[0].metrics if name.startswith("lr/")]

    def logged(row: Row) -> float | None:
        return min((row.metrics[key] for key in keys if key in row.metrics), default=None)

    schedule = arguments.schedule(planned)
    warm = [row for row in rows if row.epoch - 1 >= arguments.warmup_epochs and logged(row)]
    if not warm:
        return logged
    initial = (logged(warm[0]) or 0.0) / schedule(warm[0].epoch)
    for row in (warm[len(warm) // 2], warm[-1]):
        if not math.isclose(initial * schedule(row.epoch), logged(row) or 0.0, rel_tol=_RATE_TOLERANCE):
            return logged
    return lambda row: initial * schedule(row.epoch)
