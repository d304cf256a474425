"""Lets a resumed run step its optimizer in the very batch in which it would have, had it not been interrupted.

Changed: `trainer.optimizer_step`, to note the batch of the last step; and in a resumed run, until its first step,
`trainer.preprocess_batch` and `trainer.accumulate`.
Why: the loop counts the batches since the last step in a variable of its own, which begins anew in every process. So a
resumed run steps in its first batch, whatever was accumulated.
Undone: by the functions that are returned.
Needed in: every version that is supported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def note_steps(trainer: Any, note: Callable[[], None]) -> Callable[[], None]:
    """Call `note` before every step of the optimizer; return what undoes it."""
    step, attributes = trainer.optimizer_step, vars(trainer)
    own = attributes.get("optimizer_step")

    @wraps(step)
    def optimizer_step(*args: Any, **kwargs: Any) -> Any:
        note()
        return step(*args, **kwargs)

    trainer.optimizer_step = optimizer_step

    def undo() -> None:
        if attributes.get("optimizer_step") is optimizer_step:
            del attributes["optimizer_step"]
            attributes.update({"optimizer_step": own} if own is not None else {})

    return undo


class NotYet(int):
    """A number that nothing is at least as large as: `batches >= accumulate` is false, and all else as with an int.

    Example:
        >>> 9 >= NotYet(4), NotYet(4) == 4, max(1, NotYet(4))
        (False, True, 4)
    """

    def __le__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def hold_steps(trainer: Any, due: Callable[[int], bool]) -> Callable[[], None]:
    """Keep the loop from stepping in a batch in which no step is due.

    Args:
        trainer: The trainer.
        due: Called in each batch with the number of batches to accumulate; returns whether to step.

    Returns:
        What undoes it.
    """
    preprocess, attributes = trainer.preprocess_batch, vars(trainer)
    own = attributes.get("preprocess_batch")

    @wraps(preprocess)
    def preprocess_batch(*args: Any, **kwargs: Any) -> Any:
        accumulate = int(trainer.accumulate)  # the warm-up may just have set it
        trainer.accumulate = accumulate if due(accumulate) else NotYet(accumulate)
        return preprocess(*args, **kwargs)

    trainer.preprocess_batch = preprocess_batch

    def undo() -> None:
        trainer.accumulate = int(trainer.accumulate)
        if attributes.get("preprocess_batch") is preprocess_batch:
            del attributes["preprocess_batch"]
            attributes.update({"preprocess_batch": own} if own is not None else {})

    return undo
