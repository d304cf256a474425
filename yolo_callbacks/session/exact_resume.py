"""ExactResume: the whole state of a training, saved after its epochs, and taken up before the first resumed one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from yolo_callbacks.core.decision import Decision, Stop
from yolo_callbacks.core.record import History
from yolo_callbacks.run_dir.training_states import TrainingStates
from yolo_callbacks.session.participant import Participant
from yolo_callbacks.session.resuming import choose_state
from yolo_callbacks.session.run_files import CLOSE_TIMEOUT, HURRY_TIMEOUT
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.best_effort import BestEffortWrites
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer import ranks
from yolo_callbacks.trainer.run import Run

_MOST_REPEATED = 60.0  # seconds of training that a resume may repeat because a state was still being written


class ExactResume:
    """Saves the training's state, and takes it up. Every rank has its own; nothing happens unless a callback asks.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._every = 0
        self._at_end = False  # whether the state after the last epoch is saved, too
        self._obstacles: list[str] = []
        self._states: TrainingStates | None = None
        self._writes = BestEffortWrites()
        self._worker = Background("training state")
        self._taken_up: Mapping[str, Any] | None = None
        self._in_first = False  # in the first epoch after an exact resume
        self._said = ""
        self._unsaved = False  # and said so
        self._alone = True  # whatever else was saved is of no use
        self._saved_elapsed = self._elapsed = 0.0  # seconds of training: at the newest saved state, and so far

    # ------------------------------------------------------------------------------------ taking up

    def begin(self, callbacks: Collection[Participant[Any]]) -> None:
        """The run is set up: if a callback asks for it, choose how it is resumed, the same on every rank.

        Args:
            callbacks: Those that take part.
        """
        every = [callback.state_every_n_epochs for callback in callbacks if callback.state_every_n_epochs]
        if not every:
            return
        run = self._run
        self._every = min(every)
        self._at_end = any(callback.state_at_end for callback in callbacks)
        self._states = TrainingStates(run.save_dir, ranks.rank(), max(1, run.world_size))
        try:
            self._obstacles = run.training_state.obstacles()
        except Exception as error:  # whatever a custom trainer lacks
            self._obstacles = [f"{type(error).__name__}: {error}"]
        if run.resumed:
            self._choose(self._states)
        else:
            self._said = self._what_hinders()
        if run.is_main and not self._obstacles:
            self._worker.submit("looking at the data", run.training_state.look_at_data)

    def _choose(self, states: TrainingStates) -> None:
        run = self._run
        content: Mapping[str, Any] | None = None
        if run.is_main:
            content, self._said = choose_state(run, states, self._obstacles)
        epoch = ranks.broadcast(content["epoch"] if content is not None else None, run.world_size)
        if epoch is None:
            return
        if content is None:  # a rank above 0; rank 0 has seen that every state is whole
            content = states.read(epoch)
        self._taken_up, self._alone = content["state"], False
        self._saved_elapsed = self._elapsed = content.get("elapsed", 0.0)
        run.resume_exactly(epoch, content["state"])

    def _what_hinders(self) -> str:
        why = "; ".join(self._obstacles)
        return f"If this run is interrupted, its resume will not be exact: {why}" if why else ""

    # ------------------------------------------------------------------------------------ epoch by epoch

    def begin_epoch(self) -> None:
        """An epoch starts: follow it, and before the first one put the state back."""
        if self._said and self._run.is_main:
            LOGGER.info(self._said)
        self._said = ""
        if not self._every or self._obstacles:
            return
        if self._in_first:
            self._say_departure("its first epoch began again with a smaller batch")
        self._run.training_state.begin_epoch(before_workers=self._worker.wait)
        if self._taken_up is not None:
            self._run.training_state.restore(self._taken_up)
            self._taken_up, self._in_first = None, True

    def _say_departure(self, why: str) -> None:
        self._in_first = False
        if self._run.is_main:
            LOGGER.warning(f"From here on the numbers differ from those of an uninterrupted run: {why}")

    def end_epoch(self, history: History, decisions: Iterable[Decision]) -> None:
        """An epoch is dealt with: save the state, if that is due and there are epochs to come, or may be.

        A run that ends early may be resumed all the same.

        Args:
            history: The epochs so far; empty on the ranks above 0.
            decisions: What was decided after this one.
        """
        run, epoch, states = self._run, self._run.epoch, self._states
        before, self._elapsed = self._elapsed, history[-1].elapsed if history else 0.0
        if self._in_first and run.training_state.has_nan():
            self._say_departure("NaN in the first epoch, which Ultralytics cannot repeat after a resume")
        self._in_first = False
        last = epoch >= run.planned_epochs or any(isinstance(decision, Stop) for decision in decisions)
        due = bool(self._every) and (not epoch % self._every or last)
        if states is None or self._obstacles or not due or (epoch >= run.planned_epochs and not self._at_end):
            return
        repeated = self._elapsed - self._saved_elapsed + (self._elapsed - before)  # in the next epoch, at least
        alone = run.world_size <= 1  # ranks save the same epochs
        may_skip = alone and not self._alone and not last and repeated <= _MOST_REPEATED
        if not self._worker.wait(0.0 if may_skip else None):  # the next copy is made where the last one is
            return
        try:
            state = run.capture_state()
        except Exception as error:  # as above: the training matters more than its state
            self._obstacles = [f"{type(error).__name__}: {error}"]
            LOGGER.warning(self._what_hinders())
            return
        if state is None:
            self._say_unsaved(epoch)
            return
        content: dict[str, Any] = {"every": self._every, "state": state}
        if run.is_main:
            # by the time of its record, a state is known to belong to this run's epoch
            content |= {"elapsed": history[-1].elapsed, "conditions": run.training_state.conditions()}
        self._worker.submit("saving the training state", lambda: self._write(states, epoch, content))
        if self._alone:  # there is none yet: until there is, a kill makes the next resume inexact
            self._worker.wait()

    def _say_unsaved(self, epoch: int) -> None:
        if self._run.is_main and not self._unsaved:
            self._unsaved = True
            why = "the epoch ended before its last batch, or something else has read from its data loaders"
            LOGGER.warning(f"The training state of epoch {epoch} is not saved: {why}")

    def _write(self, states: TrainingStates, epoch: int, content: Mapping[str, Any]) -> None:
        with self._writes.attempt(f"the training state in {states.folder}", "the previous one is kept") as attempt:
            states.write(epoch, content, alone=self._alone)
            self._saved_elapsed = content.get("elapsed", 0.0)
        self._alone = self._alone and not attempt.worked

    # ------------------------------------------------------------------------------------ the end

    def remove(self) -> None:
        """Remove the states of all ranks, since nothing is left to train. Rank 0."""
        self._worker.wait(CLOSE_TIMEOUT)
        if self._states is not None:
            self._states.remove_all()

    def close(self, error: BaseException | None) -> None:
        """Wait until the state is on disk, or only a moment where the machine is taken away, and end the thread."""
        timeout = HURRY_TIMEOUT if isinstance(error, SystemExit) else CLOSE_TIMEOUT
        if not self._worker.close(timeout):
            LOGGER.warning(f"The training state was not written within {timeout:g} s and is abandoned")
        if self._states is not None and not self._run.is_main:
            self._states.forget_if_ended()
