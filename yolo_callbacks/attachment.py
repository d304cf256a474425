"""attach() and detach(), and Attachment: history, decisions and summary of a model's runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.choosing import Callbacks, check_model, check_version, resolve
from yolo_callbacks.core.decision import Decision, Stop, StopReason
from yolo_callbacks.core.events import EVENTS, VAL_EVENTS
from yolo_callbacks.core.lineup import label
from yolo_callbacks.reporting.summary import Report, as_html, as_panel, as_text
from yolo_callbacks.run_dir.recorded_run import RecordedRun
from yolo_callbacks.session.hook import LIFECYCLE_EVENTS, Hook
from yolo_callbacks.session.live_run import LiveRun
from yolo_callbacks.session.session import Session
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.introspection import is_verbose
from yolo_callbacks.trainer.patches.launch import announce_launches
from yolo_callbacks.trainer.patches.result import return_checkpoint_of_workers
from yolo_callbacks.trainer.ranks import is_worker, launches_workers

if TYPE_CHECKING:
    import pandas as pd


def attach(model: Any, callbacks: Callbacks = None) -> Attachment:
    """Attach callbacks to a model, for every `model.train()` that follows.

    Attaching again replaces the attached callbacks. The model's other callbacks are left alone. Each `model.train()`
    starts fresh, unless it resumes an interrupted run. With `verbose=True` it logs the callbacks, and a final summary.

    Args:
        model: `ultralytics.YOLO`, or any other Ultralytics model with `add_callback`.
        callbacks: A callback, a list of callbacks, the path of a YAML file that lists them, or None for
            `default_callbacks()`.

    Returns:
        The attachment: history, decisions, and why the run stopped.

    Raises:
        TypeError: If `model` takes no callbacks, or `callbacks` contains something other than callbacks.
        ValueError: If a callback has a method for an event that does not exist, or callbacks conflict.
        ConfigError: If the YAML file cannot be read, or anything in it is wrong.
        ImportError: If the installed Ultralytics is too old.

    Example:
        ```python
        import yolo_callbacks as ycb
        from ultralytics import YOLO

        model = YOLO("yolo26n.yaml")
        run = ycb.attach(model, [ycb.EarlyStopping(patience=20), ycb.CSVLogger()])
        model.train(data="coco8.yaml", epochs=100)
        print(run.stop_reason, run.history["metrics/mAP50-95(B)"].max())
        ```
    """
    check_model(model)
    check_version()
    chosen = resolve(callbacks)
    attachment = Attachment(model, chosen)
    detach(model)
    announce_launches(Hook)
    for event in attachment.events():
        model.add_callback(event, Hook(event, attachment._receive))
    first = model.callbacks["on_pretrain_routine_start"]
    first.insert(0, first.pop())  # when a function removes itself, Ultralytics skips the one after it
    return attachment


def detach(model: Any) -> None:
    """Detach the callbacks from a model; its other callbacks are left alone.

    Raises:
        TypeError: If `model` takes no callbacks.

    Example:
        ```python
        ycb.attach(model)
        ycb.detach(model)  # the next model.train() runs without callbacks
        ```
    """
    check_model(model)
    for event, functions in model.callbacks.items():
        model.callbacks[event] = [function for function in functions if not isinstance(function, Hook)]


class Attachment:
    """The attached callbacks, and the history, decisions and summary of the newest run. `attach` returns it.

    Runs in this process are read live; runs on several GPUs train in other processes and are read from their run
    directory. The `repr`, and the display in a notebook, are the summary of the run.

    Attributes:
        callbacks: The attached callbacks.
        facts: Additional facts for `run.json`.
        remark: Text to append to the line at the start of a training.

    Example:
        ```python
        run = ycb.attach(model)
        model.train(data="coco8.yaml", epochs=100)
        print(run.history["metrics/mAP50-95(B)"].max(), [decision.message for decision in run.decisions])
        ```
    """

    def __init__(self, model: Any, callbacks: Iterable[Callback], facts: Mapping[str, Any] | None = None) -> None:
        self.callbacks = tuple(callbacks)
        self.facts: dict[str, Any] = dict(facts or {})
        self.remark = ""
        self._verbose = True
        self._model: weakref.ref[Any] | None = weakref.ref(model)
        self._session: Session | None = None
        self._launched: Path | None = None

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch, indexed by `epoch` (counted from 1): metrics, losses, learning rates, counters, events.

        Empty before the first epoch.
        """
        import pandas as pd

        run = self._run()
        rows = [entry.to_row() for entry in run.entries] if run is not None else []
        frame: pd.DataFrame = pd.DataFrame(rows, columns=None if rows else ["epoch"]).set_index("epoch")
        return frame

    @property
    def decisions(self) -> list[Decision]:
        """The decisions so far, oldest first; each has its epoch, source and message."""
        run = self._run()
        return run.decisions if run is not None else []

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the run ended early; None if it did not."""
        run = self._run()
        stop = run.stop if run is not None else None
        return stop.reason if stop else None

    @property
    def stop_message(self) -> str | None:
        """Why the run ended early, as one sentence; None if it did not."""
        run = self._run()
        stop = run.stop if run is not None else None
        return stop.message if stop else None

    @property
    def save_dir(self) -> Path | None:
        """The newest run's directory; None before the first training."""
        run = self._run()
        return run.folder if run is not None else None

    def stop(self, message: str = "the program asked for it", reason: StopReason = StopReason.REQUESTED) -> bool:
        """Stop the current run of this process after its current epoch, with everything saved.

        Safe to call from any thread and from a signal handler.

        Args:
            message: One sentence that says why.
            reason: The reason to record.

        Returns:
            False if no training is running in this process, or, on several GPUs, if this is not rank 0. Then nothing
            happens.
        """
        session = self._session
        if session is None or not session.opened or session.ended or not session.run.is_main:
            return False
        session.request_stop(Stop(message, source="Attachment.stop", reason=reason))
        return True

    def events(self) -> list[str]:
        """Return the events that these callbacks need."""
        always = ("on_pretrain_routine_start", *LIFECYCLE_EVENTS)
        return [e for e in EVENTS if e in always or any(callback.overrides(e) for callback in self.callbacks)]

    def enter(self, trainer: Any) -> Session:
        """Return the session of a trainer's run; the first call adds the callbacks to it."""
        session = Session.of(trainer)
        if session is not self._session:
            self._session = session
            session.join(self.callbacks, self.facts)
            self._verbose = is_verbose(trainer)
            if self._verbose and session.run.is_main:
                LOGGER.info(f"Callbacks: {', '.join(label(self.callbacks)) or 'none'}{self.remark}")
        return session

    def _receive(self, event: str, source: Any) -> None:
        """Handle an event of a trainer or validator."""
        if event in VAL_EVENTS:  # a validator may also run without a training
            for callback in self.callbacks:
                if callback.overrides(event):
                    getattr(callback, event)(source)
            return
        if launches_workers(source):
            self._follow(source)
            return
        session = self.enter(source)
        try:
            session.handle(event)
        finally:
            if event == "teardown" and session.run.is_main:
                self.show_summary()

    def report(self) -> Report | None:
        """Return the report of the newest run, finished or not; None before the first training."""
        run = self._run()
        if run is None:
            return None
        return Report(run.folder, run.entries, run.decisions, run.stop, run.manifest, run.ended)

    def show_summary(self) -> None:
        """Log the summary of the run. Never raises, so that a finished training does not fail."""
        try:
            report = self.report() if self._verbose else None
            if report is None or not report.worth_showing:
                return
            if is_worker() and report.status in ("finished", "stopped"):
                return  # the process that waits for this one shows it
            LOGGER.info(f"\n{as_panel(report.rows())}")
        except Exception as error:
            LOGGER.warning(f"The summary of the run cannot be shown: {type(error).__name__}: {error}")

    def _trainer(self) -> Any:
        model = self._model() if self._model is not None else None
        return getattr(model, "trainer", None)

    def _run(self) -> LiveRun | RecordedRun | None:
        """Return a reader of the newest run; None before the first training."""
        trainer = self._trainer()
        if launches_workers(trainer):
            return RecordedRun(Path(trainer.save_dir))
        if self._session is not None:
            return LiveRun(self._session)
        return RecordedRun(self._launched) if self._launched is not None else None  # the model may be gone

    def _restored(self) -> Path | None:
        """Show the summary of a training in other processes, and return the weights that they restored, if any."""
        self.show_summary()
        restored = RecordedRun(self._launched).restored if self._launched is not None else None
        if restored is None:
            return None
        if not restored.exists():
            LOGGER.warning(f"{restored} does not exist, so the model keeps the weights of best.pt")
            return None
        LOGGER.info(f"The model has the weights of {restored}")
        return restored

    def _follow(self, trainer: Any) -> None:
        """Other processes are about to train, and no further event comes here.

        Raises:
            TypeError: If a callback cannot be pickled.
        """
        self._launched, self._session = Path(trainer.save_dir), None
        self._verbose = is_verbose(trainer)
        return_checkpoint_of_workers(trainer, self._restored)
        for name, callback in label(self.callbacks).items():
            _check_travels(name, callback)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model and the live run behind: what travels to another process is the configuration."""
        return {**self.__dict__, "_model": None, "_session": None}

    def __repr__(self) -> str:
        rows = as_text(self._rows())
        return f"{self._title}\n{rows}" if rows else self._title

    def _repr_html_(self) -> str:
        return as_html(self._title, self._rows())

    @property
    def _title(self) -> str:
        return f"Attachment({', '.join(label(self.callbacks))})"

    def _rows(self) -> list[tuple[str, str]]:
        """Return the lines of the summary, or the error if they cannot be read, since a repr must not raise."""
        try:
            report = self.report()
            return report.rows() if report is not None else []
        except Exception as error:
            return [("Run", f"cannot be read: {type(error).__name__}: {error}")]


def _check_travels(name: str, callback: Callback) -> None:
    import cloudpickle

    try:
        cloudpickle.dumps(callback)
    except Exception as error:  # an object that cannot be pickled may raise anything
        raise TypeError(
            f"{name} cannot be sent to the training processes ({error}): create what it holds in setup()"
        ) from error
