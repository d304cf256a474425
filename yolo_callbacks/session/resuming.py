"""Resuming: how an interrupted run continues from the files in its directory. Rank 0.

Its epochs are read back, its files are restored to their state after the last of these epochs, and the ledger decides
over them again as it did live. A fresh run has no epochs: files of an earlier run are set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import SaveCheckpoint, Stop
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.core.extension import Extension, extended
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.core.naming import BACKUP, EXTENDED, MID_EPOCH, TO_RESUME
from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.run_dir.checkpoints import CheckpointStore
from yolo_callbacks.run_dir.extending import extension_in
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.run_dir.manifest import manifest_of
from yolo_callbacks.run_dir.recorded_run import RecordedRun
from yolo_callbacks.run_dir.recovery import checkpoints_in, epochs_in, load
from yolo_callbacks.run_dir.results_csv import mend_results_csv, read_results_csv, results_in_checkpoint
from yolo_callbacks.run_dir.training_states import TrainingStates, UnreadableStateError
from yolo_callbacks.support import storage
from yolo_callbacks.support.checks import quoted
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.exact.conditions import differences
from yolo_callbacks.trainer.run import Run

_DIFFER = "the numbers will differ from those of an uninterrupted run, because"
_FROM_HERE: tuple[str, ...] = ("argument epochs",)  # what an extension changes
_CHOSEN_BY_AUTO = ("argument optimizer", "argument lr0", "argument momentum", "argument warmup_bias_lr")
_MOST_REPEATED = 120.0  # seconds; twice what is skipped while a state is being written, as epochs differ
_NEWEST = ("last.pt", *(name.rpartition("/")[2] for name in TO_RESUME))  # each save replaces what they hold


def choose_state(run: Run, states: TrainingStates, obstacles: Iterable[str]) -> tuple[Mapping[str, Any] | None, str]:
    """Choose how a run is resumed: exactly, from the state that was saved of it, or from a checkpoint's weights.

    Args:
        run: The run, loaded from its checkpoint.
        states: What was saved.
        obstacles: Why the run cannot be resumed exactly, whatever was saved.

    Returns:
        The content of the state, None to go on from the weights; and what was chosen and why, for people.
    """
    checkpoint, done = run.resumed_from.name, run.epochs_before
    if done >= run.planned_epochs:
        return None, ""
    try:
        content = _fitting_state(run, states, obstacles)
    except UnreadableStateError as error:
        why = str(error)
    except Exception as error:  # whatever another program may have written
        why = f"the saved state lacks something ({quoted(error)})"
    else:
        epoch = content["epoch"]
        if _begins_extension(run):
            return content, f"Extending from the saved state of epoch {epoch}: all that the next epoch depends on"
        again = "which runs again" if epoch < done else "and not needed"
        again = f"and the epochs after {epoch} run again" if epoch < done - 1 else again
        other = f" ({checkpoint} is of epoch {done}, {again})" if epoch != done else ""
        return content, f"Resuming exactly, after epoch {epoch}: the numbers are those of an uninterrupted run{other}"
    if _begins_extension(run):
        return None, f"Extending from the weights and the optimizer of epoch {done}, without the exact state: {why}"
    return None, f"Resuming from the weights of {checkpoint}, after epoch {done}: {_DIFFER} {why}"


def _fitting_state(run: Run, states: TrainingStates, obstacles: Iterable[str]) -> Mapping[str, Any]:
    """Return the state that a run can be resumed from exactly.

    Raises:
        UnreadableStateError: If there is none; the message says why.
    """
    if obstacles:
        raise UnreadableStateError("; ".join(obstacles))
    epoch, done, checkpoint = states.newest(), run.epochs_before, run.resumed_from.name
    if epoch is None:
        raise UnreadableStateError("no training state was saved with it")
    content = states.read(epoch)
    # a kill between the two leaves one of them ahead; an older checkpoint that somebody has chosen is what they want
    chosen = epoch > done and checkpoint not in _NEWEST
    begins = _begins_extension(run)
    journal = RecordedRun(run.save_dir).journal
    near = abs(epoch - done) <= content["every"] or (epoch < done and _is_short(run, journal, epoch))
    if chosen or (epoch != done if begins else not near):
        raise UnreadableStateError(f"the saved state is of epoch {epoch}")
    before, now = content["conditions"], run.training_state.conditions()
    ignored = _FROM_HERE if begins or journal.plan.extended_after(epoch) else ()
    if begins and before.get("argument optimizer") == "auto":  # an extension names what it had chosen
        ignored += _CHOSEN_BY_AUTO
    changed = differences(*({key: own[key] for key in own if key not in ignored} for own in (before, now)))
    if changed := changed or run.training_state.misfits(content["state"]):
        raise UnreadableStateError(", ".join(changed))
    entries = journal.entries
    if not any((entry.record.epoch, entry.record.elapsed) == (epoch, content["elapsed"]) for entry in entries):
        raise UnreadableStateError(f"the journal does not have epoch {epoch} as the saved state has it")
    states.verify_others(epoch)
    return content


def _begins_extension(run: Run) -> bool:
    return run.resumed_from.name == EXTENDED.rpartition("/")[2]


def extensions_of(run: Run, journal: Path) -> tuple[Extension, ...]:
    """Return the extensions of a resumed run up to the epoch that it goes on from, with one that begins now.

    Args:
        run: The run.
        journal: The run's journal.
    """
    done = run.epochs_before
    if not done:
        return ()
    written = read_journal(journal).plan.extensions if journal.exists() else ()
    known = tuple(item for item in written if item.after <= done)
    new = extension_in(run.resumed_from) if _begins_extension(run) else None
    return extended(known, new) if new is not None and new.after <= done else known


def _is_short(run: Run, journal: JournalContent, epoch: int) -> bool:
    """Return whether little was trained after a state, so that no newer one was saved: epochs were shorter than that.

    A run that was resumed from it before has cut its logs back to it. One that was continued without us has not.
    """
    elapsed = {entry.record.epoch: entry.record.elapsed for entry in journal.entries}
    if journal.pending is not None:
        elapsed[journal.pending.epoch] = journal.pending.elapsed
    if epoch not in elapsed:
        return False
    results = run.save_dir / "results.csv"
    logged = [record.epoch for record in read_results_csv(results)] if results.exists() else []
    newest = max(elapsed)
    return max(logged, default=run.epochs_before) <= newest + 1 and elapsed[newest] - elapsed[epoch] <= _MOST_REPEATED


def known_checkpoints(run: Run) -> list[dict[str, Any]]:
    """Return the checkpoints that an earlier part of this run has kept, up to the epoch that it resumes from."""
    done = run.epochs_before
    listed = manifest_of(run.save_dir).get("checkpoints", []) if done else []
    later = [item["file"] for item in listed if item.get("epoch", 0) > done]
    if later and run.checkpoint_epochs is None:  # otherwise they are made again as they are
        LOGGER.warning(f"Kept checkpoints of epochs after {done}, which now run again: {', '.join(later)}")
    return [item for item in listed if item.get("epoch", 0) <= done]


def take_up(run: Run, ledger: Ledger, journal: Path, checkpoints: CheckpointStore) -> Stop | None:
    """Resume a run where it was interrupted.

    Args:
        run: The run.
        ledger: Receives the run's finished epochs.
        journal: The run's journal.
        checkpoints: The checkpoints of the run.

    Returns:
        Why the run had already ended, None if it continues.
    """
    earlier = _earlier_epochs(run, journal)
    _mend_results(run)
    _tidy_checkpoints(run, checkpoints)
    checkpoints.mend_originals()
    _mend_files_after_last(run, checkpoints)
    extensions = ledger.history.plan.extensions
    begins_after = extensions[-1].after if extensions else 0
    for record in earlier:
        from_results_csv = record.base_lr is None
        if record.epoch > begins_after:  # a finish before an extension has been
            run.apply_finish(ledger.finishing)
        known = run.with_schedule(record, ledger.learning_rate) if from_results_csv else record
        if record.epoch == begins_after:  # it was the last one, and now it has a next one
            known = replace(known, last=False, next_base_lr=run.scheduled_lr(record.epoch + 1))
        ledger.add(known)
    if not ledger.entries:
        return None
    run.apply_finish(ledger.finishing)
    run.continue_clock(ledger.history[-1].elapsed)
    *before, newest = ledger.entries
    if (run.checkpoint_epochs or 0) > run.epochs_before:  # a later one was written, and that waits for those before
        checkpoints.adopt(_saves(ledger.entries))
    else:
        checkpoints.adopt(_saves(before))
        _keep_missed(run, checkpoints, newest)
    return newest.stop or run.why_finished()


def _saves(entries: Iterable[Entry]) -> Iterator[SaveCheckpoint]:
    return (decision for entry in entries for decision in entry.decisions if isinstance(decision, SaveCheckpoint))


def _earlier_epochs(run: Run, journal: Path) -> list[EpochRecord]:
    """Return the finished epochs, one record each, up to the epoch that the run resumes from.

    They come from the journal; those that it lacks, from `results.csv` or else from the checkpoint that the run resumes
    from. The journal of another run in the same folder is set aside.
    """
    done = run.epochs_before
    content = read_journal(journal) if journal.exists() else JournalContent(Plan(), (), [])
    written = [entry.record for entry in content.entries]
    if written and written[-1].epoch > done and run.checkpoint_epochs is None:
        whose = f"epochs after {done}, which now run again," if done else "an earlier run"
        LOGGER.warning(f"The journal of {whose} is kept as {storage.set_aside(journal)}")
    if not done:
        return []
    results = run.save_dir / "results.csv"
    sources: tuple[Callable[[], list[EpochRecord]], ...] = (
        lambda: read_results_csv(results) if results.exists() else [],
        lambda: results_in_checkpoint(load(run.resumed_from)),
    )
    records = {record.epoch: record for record in [*written, *([content.pending] if content.pending else [])]}
    for source in sources:
        if any(epoch not in records for epoch in range(1, done + 1)):
            records = {record.epoch: record for record in source()} | records
    missing = [str(epoch) for epoch in range(1, done + 1) if epoch not in records]
    if missing:
        LOGGER.warning(f"Epochs missing from every log: {', '.join(missing)}; the run continues without them")
    return [records[epoch] for epoch in sorted(records) if epoch <= done]


def _mend_results(run: Run) -> None:
    """Remove the rows of epochs that run again from Ultralytics' `results.csv`."""
    path, done = run.save_dir / "results.csv", run.epochs_before
    try:
        removed = mend_results_csv(path, done) if done else 0
    except OSError as error:
        LOGGER.warning(f"{path} cannot be cut back to epoch {done}: {error}")
        return
    if removed:
        LOGGER.info(f"{path}: removed {removed} row{'s' * (removed > 1)} of epochs that run again")


def _tidy_checkpoints(run: Run, checkpoints: CheckpointStore) -> None:
    """Set aside the checkpoints of another run in this folder, or of epochs of this one that run again."""
    done, last = max(run.epochs_before, run.checkpoint_epochs or 0), run.last_checkpoint
    known = [last, *(checkpoints.path(name) for name in TO_RESUME)]
    if done:
        resumed = run.resumed_from.resolve()
        stale = [path for path in known if path.resolve() != resumed and (epochs_in(path) or 0) > done]
    else:  # nothing here belongs to this run, whatever its name
        resumed = None
        others = (path for path in checkpoints_in(run.save_dir) if path not in known)
        stale = [path for path in known if path.exists()] + [path for path in others if epochs_in(path)]
    for path in stale:
        storage.rename(path, path.with_name(f"{path.name}.old"))
    if stale:
        names = ", ".join(path.name for path in stale)
        LOGGER.warning(
            f"Renamed checkpoints of {'epochs that run again' if done else 'an earlier run'} to *.old: {names}"
        )
    if last in stale and resumed is not None:
        storage.duplicate(resumed, last)
    checkpoints.forget_missing()


def _mend_files_after_last(run: Run, checkpoints: CheckpointStore) -> None:
    """Write what the trainer writes after `last.pt`, where the process died in between: `best.pt`, `epoch<N>.pt`."""
    if not run.epochs_before or run.checkpoint_epochs not in (None, run.epochs_before):
        return
    index = run.epochs_before - 1
    if run.save_period > 0 and index % run.save_period == 0:
        _mend(run, checkpoints, run.last_checkpoint.with_name(f"epoch{index}.pt"))
    content = load(run.resumed_from)
    fitness = (content.get("train_metrics") or {}).get("fitness")
    if fitness is None or content.get("best_fitness") != fitness:
        return
    _mend(run, checkpoints, run.best_checkpoint)


def _mend(run: Run, checkpoints: CheckpointStore, path: Path) -> None:
    source = _newest_epoch(run, checkpoints)
    if source is not None and epochs_in(path) != run.epochs_before:
        storage.duplicate(source, path)


def _keep_missed(run: Run, checkpoints: CheckpointStore, entry: Entry) -> None:
    """Keep the newest epoch's checkpoints that were decided just before a crash."""
    missed = [decision for decision in _saves([entry]) if not checkpoints.has(decision)]
    source = _newest_epoch(run, checkpoints) if missed else None
    for decision in missed:
        if source is not None:
            checkpoints.keep(decision, source)
        else:
            LOGGER.warning(f"{decision.file} (epoch {decision.epoch}) was lost when the process died")


def _newest_epoch(run: Run, checkpoints: CheckpointStore) -> Path | None:
    """Return a checkpoint of the last finished epoch with the weights that were validated; None if there is none.

    A checkpoint from the middle of the next epoch can be resumed, but it has other weights.
    """
    candidates = [run.last_checkpoint, checkpoints.path(BACKUP), run.resumed_from]
    whole = (path for path in candidates if path.name not in MID_EPOCH)
    return next((path for path in whole if epochs_in(path) == run.epochs_before), None)
