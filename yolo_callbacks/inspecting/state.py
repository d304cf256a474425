"""In which state a run is, judged by what lies in its directory. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

LONGEST_SETUP = 3600.0
"""Seconds of silence that are usual before the second epoch: downloads, and labels that are read for the first time."""

_SHORTEST_SILENCE, _EPOCHS_OF_SILENCE = 600.0, 5.0


class State(str, Enum):
    """The state of a run."""

    RUNNING = "running"
    STALLED = "stalled"
    FINISHED = "finished"
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(frozen=True)
class Signs:
    """What shows in which state a run is.

    Attributes:
        status: The status in `run.json`; empty if the run was made without us.
        why: Why the run ended, from `run.json`; may be empty.
        alive: Whether its process lives; None if that cannot be known, as on another machine.
        stalled: Whether its heartbeat says that it stands still.
        silence: Seconds since anything in its directory has changed.
        epoch_seconds: Seconds of its slowest epoch; None if that is unknown.
        completed: Whether all planned epochs are done.
        concluded: Whether Ultralytics has written the pictures that follow the last epoch.
        patience_over: Whether the trainer's own patience is over.
    """

    status: str = ""
    why: str = ""
    alive: bool | None = None
    stalled: bool = False
    silence: float = 0.0
    epoch_seconds: float | None = None
    completed: bool = False
    concluded: bool = False
    patience_over: bool = False


def judge(signs: Signs) -> tuple[State, str]:
    """Return the state of a run, and the reason for it as half a sentence.

    A run that says `running` may have been killed: nobody was left to write that down. If its process is gone, it was.
    If nobody can ask for the process, it counts as running until it has been silent for 5 of its epochs, at least
    10 minutes (before its second epoch: an hour).

    Example:
        >>> judge(Signs("running", alive=False))[0].value, judge(Signs(completed=True, silence=1e6))[0].value
        ('killed', 'finished')
    """
    if signs.status and signs.status != State.RUNNING.value:
        known = signs.status in {state.value for state in State}
        return (State(signs.status) if known else State.STOPPED), signs.why or "run.json says so"
    silent = signs.silence > patience_with(signs.epoch_seconds)
    return _unfinished(signs, silent) if signs.status else _not_ours(signs, silent)


def _unfinished(signs: Signs, silent: bool) -> tuple[State, str]:
    """Judge a run that says `running`."""
    if signs.alive is False:
        return State.KILLED, "its process is gone"
    if signs.stalled or (silent and signs.alive):
        return State.STALLED, "its process lives but makes no progress"
    if silent:
        return State.KILLED, "silent for too long"
    return State.RUNNING, "its process lives" if signs.alive else "its files have changed recently"


def _not_ours(signs: Signs, silent: bool) -> tuple[State, str]:
    """Judge a run made without us."""
    if signs.completed:
        return State.FINISHED, "all planned epochs are logged"
    if signs.concluded or (signs.patience_over and silent):
        return State.STOPPED, "Ultralytics has concluded it early"
    if silent:
        return State.KILLED, "silent, with epochs missing"
    return State.RUNNING, "its files have changed recently"


def patience_with(epoch_seconds: float | None) -> float:
    """Return the seconds of silence after which a run counts as not running.

    Example:
        >>> patience_with(None), patience_with(10), patience_with(600)
        (3600.0, 600.0, 3000.0)
    """
    return LONGEST_SETUP if epoch_seconds is None else max(_SHORTEST_SILENCE, _EPOCHS_OF_SILENCE * epoch_seconds)
