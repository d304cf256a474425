"""Notify: messages to people, through any service that apprise supports."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.callbacks.plot_logger import PlotLogger
from yolo_callbacks.core.epochs import epochs_in_words
from yolo_callbacks.core.lineup import label_of
from yolo_callbacks.core.monitor import Metric, Monitor, ProgressFold
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.messenger import Message, check_urls, scheme_of, send, without_mentions
from yolo_callbacks.reporting.news import NewsFold
from yolo_callbacks.reporting.outbox import GRACE, HURRY, Outbox
from yolo_callbacks.session.remaining import estimate
from yolo_callbacks.session.run_files import status_of
from yolo_callbacks.support.checks import check_bool, check_choice, check_names, check_number, quoted
from yolo_callbacks.support.numbers import duration
from yolo_callbacks.support.optional_packages import require
from yolo_callbacks.support.per_run import PerRun
from yolo_callbacks.support.secrets import Secret, hide, unless_hidden

if TYPE_CHECKING:
    from yolo_callbacks.session.participant import Alert
    from yolo_callbacks.session.session import Session

EVENTS = ("start", "best", "stop", "failure", "stall")
URLS_VARIABLE = "YOLO_CB_NOTIFY_URLS"
_TITLE_KEYS = ("project", "name", "event", "task", "model")
_QUEUE = 16
_FIRST_PAUSE = 2.0  # seconds
_LONGEST_TEXT = 1000  # characters of an exception
_HEADLINES = {
    "finished": "finished",
    "stopped": "stopped early",
    "preempted": "preempted",
    "interrupted": "interrupted",
    "failed": "failed",
}


class Notify(PerRun[list[Outbox]], Callback):
    """Send a short message when a run starts, has a new best, stops or fails, with a picture of the curves.

    apprise sends it to Slack, Discord, Telegram, e-mail, ntfy and about a hundred other services, each with its own
    form of URL: see https://appriseit.com/services/. Each URL has its own thread, so a service that is slow or down
    delays neither the training nor the other services. Failed messages are sent again. The end of the training waits
    at most 10 s for the last messages, 3 s after Ctrl-C or a preemption. A process that is killed sends nothing.

    File names and error texts mention nobody, even if they contain `@everyone`; your own `title` may.

    The picture is that of `PlotLogger`, if it is attached and the service accepts files. A resumed run does not report
    an old best again.

    Args:
        urls: One URL or a list of URLs. Since they contain tokens, only their scheme is shown or stored. None reads
            the environment variable `YOLO_CB_NOTIFY_URLS`, separated by spaces or commas. Defaults to None.
        events: What to report: `"start"` (also of a resumed run), `"best"`, `"stop"` (the run ended, early or not),
            `"failure"` (an exception, Ctrl-C or a preemption), `"stall"` (`Watchdog` has found that the run stands
            still, or goes on again). Defaults to ('start', 'best', 'stop', 'failure', 'stall').
        monitor: The metric of `"best"`: a metric's name or a function of the epoch's metrics, as in `EarlyStopping`.
            Defaults to `"fitness"`.
        mode: `"max"`, `"min"` or `"auto"`. Defaults to `"auto"`.
        min_interval_minutes: Minimum minutes of training between two messages about a new best, and before the first
            one, >= 0. A best that comes sooner is reported when the time has passed. Defaults to 30.
        with_picture: Whether to attach the curves. Defaults to True.
        title: Template of the title with `{project}`, `{name}`, `{event}`, `{task}`, `{model}`. Defaults to
            `"{project}/{name}: {event}"`.

    Raises:
        ImportError: If apprise is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If there is no URL, apprise does not support one, or an argument is out of range.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.Notify("ntfy://my-trainings", events=["stop", "failure"])])
        ```
    """

    priority = Priority.REPORT

    def __init__(
        self,
        urls: Union[str, Iterable[str], None] = None,
        events: Iterable[str] = EVENTS,
        *,
        monitor: Metric = "fitness",
        mode: str = "auto",
        min_interval_minutes: float = 30.0,
        with_picture: bool = True,
        title: str = "{project}/{name}: {event}",
    ) -> None:
        require("apprise", who=type(self).__name__)
        urls = unless_hidden("urls", urls, URLS_VARIABLE)
        self.urls = None if urls is None else check_urls("urls", urls)
        self.events = _check_events(events)
        self.monitor = monitor
        self.mode = mode
        self.min_interval_minutes = check_number("min_interval_minutes", min_interval_minutes, minimum=0.0)
        self.with_picture = check_bool("with_picture", with_picture)
        self.title = _check_title(title)
        self._monitor = Monitor.of(monitor, mode)
        self._news = NewsFold(ProgressFold(self._monitor), 60.0 * self.min_interval_minutes)
        self._targets()
        self._words: dict[str, str] = {}

    def _targets(self) -> list[Secret]:
        if self.urls is not None:
            return self.urls
        if not os.environ.get(URLS_VARIABLE):
            raise ValueError(f"Notify needs urls, or the environment variable {URLS_VARIABLE}")
        return check_urls(URLS_VARIABLE, os.environ[URLS_VARIABLE])

    def needs(self) -> Iterable[str]:
        """Return the monitored metric."""
        return self._monitor.needs

    def setup(self, session: Session) -> None:
        """Report that the run starts or resumes."""
        for outbox in self._live or ():  # of a run whose end never came here
            outbox.finish(0.0)
        label = label_of(self, session.callbacks)
        self._live = [
            Outbox(f"{label} ({scheme_of(url)})", partial(send, url), limit=_QUEUE, first_pause=_FIRST_PAUSE)
            for url in self._targets()
        ]
        facts = session.run.describe()
        self._words = {
            "project": session.run.save_dir.parent.name,
            "name": session.run.save_dir.name,
            "task": str(facts["task"]),
            "model": Path(facts["model"]).name,
        }
        done, planned = session.history.epoch, session.run.planned_epochs
        if "start" in self.events:
            what = f"{self._words['model']} ({self._words['task']}) on {Path(facts['data']).name}, {facts['device']}"
            epochs = f"epochs {done + 1} to {planned}" if session.run.resumed else epochs_in_words(planned)
            self._put("resumed" if session.run.resumed else "started", [f"{epochs} of {what}"], "info")

    def act(self, session: Session) -> None:
        """Report a new best, if it is time."""
        news = session.history.fold(self._news)
        if "best" not in self.events or news.told_in != session.history.epoch:
            return
        best = session.history[-1]
        planned = session.history[-1].planned_epochs
        before = "" if news.before is None else f", before {news.before:.5g} in epoch {news.before_epoch}"
        lines = [f"{self._monitor.name} {news.told:.5g} in epoch {news.told_epoch} of {planned}{before}"]
        if news.told_epoch == best.epoch:
            lines += _metrics(best)
        if (eta := estimate(session.run, session.ledger, session.callbacks.values())) is not None and eta.seconds:
            lines.append(f"{eta} left")
        self._put("new best", lines, "info", self._picture(session), key="best")

    def alert(self, session: Session, alert: Alert) -> None:
        """Report that the run stands still, or goes on again."""
        if "stall" in self.events:
            self._put(alert.event.replace("_", " "), [alert.message], "warning" if alert.event == "stall" else "info")

    def deliver(self, session: Session, error: BaseException | None) -> None:
        """Report how the run ended, with the last picture, and wait briefly for the messages."""
        status = status_of(session.stop_decision, error)
        ended = status in ("finished", "stopped")
        if ("stop" if ended else "failure") in self.events:
            kind = "success" if ended else "failure" if status == "failed" else "warning"
            self._put(_HEADLINES[status], self._ending(session, error), kind, self._picture(session))
        for outbox in self._live or ():
            outbox.finish(HURRY if isinstance(error, (KeyboardInterrupt, SystemExit)) else GRACE)
        for outbox in self._live or ():
            outbox.join()
        self._live = None

    def _ending(self, session: Session, error: BaseException | None) -> list[str]:
        history, stop = session.history, session.stop_decision
        lines = [f"{history.epoch} of {epochs_in_words(session.run.planned_epochs)}"]
        if history:
            lines[0] += f" in {duration(history[-1].elapsed)}"
        if stop is not None:
            lines.append(stop.message)
        elif error is not None:
            lines.append(f"{type(error).__name__}: {str(error)[:_LONGEST_TEXT]}".removesuffix(": "))
        elif session.finish_decision is not None:
            lines.append(session.finish_decision.message)
        progress = history.fold(self._news).progress
        if progress.best is not None and self._monitor.is_worst(progress.best):
            lines.append(f"{self._monitor.name} is still 0")
        elif progress.best is not None:
            lines.append(f"best {self._monitor.name}: {progress.best:.5g} in epoch {progress.best_epoch}")
        return lines

    def _picture(self, session: Session) -> Path | None:
        plots = (item for item in session.callbacks.values() if isinstance(item, PlotLogger))
        plot = next(plots, None) if self.with_picture else None
        return None if plot is None else session.run.callbacks_dir / plot.filename

    def _put(
        self, event: str, lines: list[str], kind: str, picture: Path | None = None, *, key: str | None = None
    ) -> None:
        secrets = [str(url) for url in self.urls or ()]
        words = {name: without_mentions(hide(word, secrets)) for name, word in {**self._words, "event": event}.items()}
        title, body = self.title.format_map(words), without_mentions(hide("\n".join(lines), secrets))
        message = Message(hide(title, secrets), body, kind, picture)
        for outbox in self._live or ():
            outbox.put(message, droppable=key is not None, key=key)


def _check_events(events: object) -> list[str]:
    names = check_names("events", events, f"a list of {', '.join(map(repr, EVENTS))}")
    return [check_choice("events", name, EVENTS) for name in names]


def _check_title(title: object) -> str:
    if not isinstance(title, str):
        raise TypeError(f"title={quoted(title)} must be a template such as '{{name}}: {{event}}'")
    try:
        fields = [(key, spec or "") for _, key, spec, _ in string.Formatter().parse(title) if key is not None]
    except ValueError as error:
        raise ValueError(f"title={quoted(title)} is not a template: {error}") from None
    for key, spec in fields:
        check_choice("title: key", key, _TITLE_KEYS)
        if re.search(r"\d{4}", spec):
            raise ValueError(f"title={quoted(title)} is too long: '{{{key}:{spec[:9]}}}' has thousands of characters")
    try:
        title.format_map(dict.fromkeys(_TITLE_KEYS, "text"))
    except (ValueError, LookupError) as error:
        raise ValueError(f"title={quoted(title)} has a format that does not fit a text: {error}") from None
    return title


def _metrics(record: EpochRecord) -> list[str]:
    values = {key: value for key, value in record.metrics.items() if key.startswith("metrics/")}
    return [", ".join(f"{key.removeprefix('metrics/')} {value:.4g}" for key, value in values.items())] if values else []
