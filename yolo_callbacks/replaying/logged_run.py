"""A run as its logs tell it: the records that a live training would have had."""

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

_CLOSE = 0.02  # how far, as a share, a logged learning rate may be from what the schedule says


@dataclass(frozen=True)
class LoggedRun:
    """A run that can be replayed.

    Attributes:
        name: What to call it.
        source: `journal.jsonl` or `results.csv`, or whatever the file is called.
        plan: What it set out to do.
        records: Its epochs, at least one of them validated.
        scores: What the model of each epoch is judged by, see `ReplayReport`; NaN for an epoch without validation.
        timed: Whether its log says how long the epochs took.
        arguments_known: Whether its arguments are on record, or Ultralytics' defaults stand for them.
        decisions: What its callbacks have decided, where that is on record.
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
    """Read a run, from its journal where it has one.

    Raises:
        UnusableError: If there is nothing in its logs that can be replayed.
        OSError: If they cannot be read.
    """
    journal = _journal(files)
    if journal is None:
        assert files.results is not None  # a run has one or the other
        return _from_results(files, files.results)
    # what its own callbacks made of the learning rate must not show where others are replayed
    written = [replace(entry.record, lr_factor=1.0) for entry in journal.entries]
    records = sorted([*written, *_not_in_the_journal(files, written)], key=lambda record: record.epoch)
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
    """Return the journal of a run; None if there is none with an epoch, or a newer version has written it.

    Raises:
        UnusableError: If there is nothing else.
    """
    if files.journal is None:
        return None
    try:
        content = read_journal(files.journal)
        reason = "has no epoch that was validated"
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # whatever a line may hold that is not ours
        content, reason = None, f"cannot be read: {error}"
    if content is not None and any(entry.record.validated for entry in content.entries):
        return content
    if files.results is None:
        raise UnusableError(reason)
    return None


def _not_in_the_journal(files: LogFiles, written: Sequence[EpochRecord]) -> list[EpochRecord]:
    """Return epochs that only Ultralytics has logged: those before the callbacks came, or after they went."""
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
    """Read a run from a `results.csv`, and from the arguments beside it."""
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
    """Return what tells the rate that the trainer's schedule gives an epoch, in the group with the lowest one.

    The log has the rates as they were, warm-up and all. Where those after the warm-up follow the schedule that the
    arguments speak of, it is that schedule; else the logged rate stands for it.
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
        if not math.isclose(initial * schedule(row.epoch), logged(row) or 0.0, rel_tol=_CLOSE):
            return logged
    return lambda row: initial * schedule(row.epoch)
