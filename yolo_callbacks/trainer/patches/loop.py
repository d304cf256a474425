"""Changes to the training loop: its last event after an exception, and a way to skip it.

Changed: `trainer._do_train`, and `trainer.resume_training` of a resumed run.
Why: before 8.4.177 a training that ends with an exception sends no `teardown`. And a process may die after the last
epoch, while Ultralytics strips and evaluates: Ultralytics cannot resume that. It refuses a run that has completed its
planned epochs, and trains one more epoch of a run that was stopped.
Undone: never; a trainer trains once, and the methods are on this trainer only.
Needed in: `teardown` before 8.4.177; skipping the loop in every supported version.
"""

from __future__ import annotations

from typing import Any

from yolo_callbacks.trainer.versions import ultralytics_is_at_least


def send_teardown_after_exceptions(trainer: Any) -> None:
    """Send `teardown` even if a training ends with an exception, as Ultralytics does from 8.4.177 on."""
    if ultralytics_is_at_least(8, 4, 177):
        return
    train = trainer._do_train

    def do_train(*args: Any, **kwargs: Any) -> None:
        try:
            train(*args, **kwargs)
        except BaseException:
            trainer.run_callbacks("teardown")
            raise

    trainer._do_train = do_train


class SkipTraining(Exception):
    """Leaves the training loop of a run that had already ended; never leaves this module's `do_train`."""


def allow_skip_training(trainer: Any) -> None:
    """Let a resumed run that had already ended skip to what follows the loop, such as the final evaluation.

    Call it before the training begins; raising `SkipTraining` in on_train_epoch_start then skips the loop.
    """
    train, resume = trainer._do_train, trainer.resume_training

    def resume_training(checkpoint: Any, *args: Any, **kwargs: Any) -> None:
        try:
            resume(checkpoint, *args, **kwargs)
        except AssertionError:
            done = (checkpoint or {}).get("epoch", -1) + 1
            if not done or done < trainer.epochs:  # a stripped checkpoint has no epoch number
                raise
            trainer._load_checkpoint_state(checkpoint)
            trainer.start_epoch = done

    def do_train(*args: Any, **kwargs: Any) -> None:
        try:
            train(*args, **kwargs)
        except SkipTraining:
            trainer.epoch = trainer.start_epoch - 1
            trainer.final_eval()
            if trainer.args.plots:
                trainer.plot_metrics()
            trainer.run_callbacks("on_train_end")
            for loader in (trainer.train_loader, trainer.test_loader):
                if hasattr(loader, "close"):
                    loader.close()

    trainer._do_train, trainer.resume_training = do_train, resume_training
