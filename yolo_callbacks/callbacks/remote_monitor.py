"""RemoteMonitor: every epoch, and start, stop and failure, as JSON to your own server."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from yolo_callbacks._version import __version__
from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import Decision, Stop
from yolo_callbacks.core.epochs import completed_in_words
from yolo_callbacks.core.lineup import label_of
from yolo_callbacks.core.metrics import MetricView, UnknownMetricError, check_known
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.outbox import GRACE, HURRY, Attempt, Outbox
from yolo_callbacks.reporting.webhook import Webhook, check_headers, check_url, secret_bytes
from yolo_callbacks.session.run_files import status_of
from yolo_callbacks.support.checks import check_bool, check_int, check_names, check_number
from yolo_callbacks.support.numbers import finite_or_none
from yolo_callbacks.support.per_run import PerRun
from yolo_callbacks.support.secrets import HIDDEN, Secret, hide, unless_hidden, without_secrets

if TYPE_CHECKING:
    from yolo_callbacks.core.entry import Entry
    from yolo_callbacks.session.participant import Alert
    from yolo_callbacks.session.session import Session

SCHEMA = 1
"""Version of the messages; raised when receivers of the old ones would no longer understand them."""

URL_VARIABLE, SECRET_VARIABLE = "YOLO_CB_REMOTE_URL", "YOLO_CB_REMOTE_SECRET"
_BLOCK = 1000  # sequence numbers reserved at a time, so that run.json is not written in every epoch
_LONGEST_TEXT = 2000  # characters of an exception


class RemoteMonitor(PerRun["_Live"], Callback):
    """Post a JSON message to a URL for every epoch, and one when the run starts, is resumed, stops or fails.

    A background thread sends the messages, so a server that is slow or down does not delay the training. Failed
    messages are sent again after growing pauses. If more than `queue_size` messages wait, the oldest epochs are
    dropped, and the next message says how many. The end of the training waits at most 10 s for the last messages, 3 s
    after Ctrl-C or a preemption. A process that is killed sends nothing. Redirects are not followed.

    `docs/remote-monitor.md` in the repository describes the messages, and how a receiver checks the signature.

    Keras's callback of this name takes `root` and `path`, posts the epoch's logs as a form field, and waits for the
    server; this one takes one URL, posts JSON, and never waits.

    Args:
        url: The URL: https, or http to this machine. A login in it becomes basic authentication; the login and the
            query are never shown or stored. None reads the environment variable `YOLO_CB_REMOTE_URL`. Defaults to
            None.
        headers: Additional headers, such as `{"Authorization": "Bearer ..."}`. Their values are never shown or stored.
            Defaults to None.
        secret: Secret that signs every message (HMAC-SHA256, as in Standard Webhooks). None reads the environment
            variable `YOLO_CB_REMOTE_SECRET`; without it, messages are not signed. Defaults to None.
        metrics: The numbers in an epoch's message, by their names in `epochs.csv` or short names (`"mAP50-95"`). None
            sends all. Defaults to None.
        timeout: Seconds to wait for a connection, and again for the answer, > 0. Defaults to 5.
        queue_size: Maximum number of waiting messages, >= 1. Defaults to 256.
        allow_http: Whether http, which is not encrypted, may go to another machine. Defaults to False.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no URL, it is not allowed, or an argument is out of range.
        UnknownMetricError: Before the first epoch, if the run does not have one of the `metrics`.

    Example:
        ```python
        ycb.attach(model, [*ycb.default_callbacks(), ycb.RemoteMonitor("https://dashboard.example.org/yolo")])
        ```
    """

    priority = Priority.REPORT

    def __init__(
        self,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        secret: str | None = None,
        metrics: Iterable[str] | None = None,
        timeout: float = 5,
        queue_size: int = 256,
        allow_http: bool = False,
    ) -> None:
        self.allow_http = check_bool("allow_http", allow_http)
        url = unless_hidden("url", url, URL_VARIABLE)
        self.url = None if url is None else check_url("url", url, allow_http=allow_http)
        self.headers = check_headers("headers", headers)
        if self.headers and HIDDEN in self.headers.values():
            raise ValueError("the values of headers are hidden in run.json: pass the callback again")
        secret = unless_hidden("secret", secret, SECRET_VARIABLE)
        if secret is not None and (not isinstance(secret, str) or not secret):
            raise TypeError("secret must be a string that is not empty")
        self.secret = None if secret is None else Secret(secret)
        self.metrics = _check_names(metrics)
        self.timeout = check_number("timeout", timeout, minimum=0.0, exclusive=True)
        self.queue_size = check_int("queue_size", queue_size, minimum=1)
        self._webhook()

    def _webhook(self) -> Webhook:
        """Return the connection; what comes from the environment is read again each time, never stored."""
        url, secret = self.url, self.secret or os.environ.get(SECRET_VARIABLE)
        if url is None:
            if not os.environ.get(URL_VARIABLE):
                raise ValueError(f"RemoteMonitor needs a url, or the environment variable {URL_VARIABLE}")
            url = check_url(URL_VARIABLE, os.environ[URL_VARIABLE], allow_http=self.allow_http)
        key = secret_bytes(secret) if secret else None
        return Webhook(url, self.headers, key, self.timeout, f"yolo-callbacks/{__version__}")

    def setup(self, session: Session) -> None:
        """Check the names of the metrics, and report that the run starts or resumes."""
        self._check_metrics(session)
        if self._live is not None:  # of a run whose end never came here
            self._live.outbox.finish(0.0)
        label = label_of(self, session.callbacks)
        webhook, facts = self._webhook(), session.run.describe()
        outbox = Outbox(f"{label} ({webhook.place})", partial(_send, webhook), limit=self.queue_size)
        run = {
            "id": session.id,
            "name": session.run.save_dir.name,
            "project": session.run.save_dir.parent.name,
            "task": facts["task"],
            "model": _last_part(facts["model"]),
        }
        self._live = _Live(outbox, _Sequence(session, label), run)
        self._put(
            "resume" if session.run.resumed else "start",
            epoch=session.history.epoch,
            planned_epochs=session.run.planned_epochs,
            data=_last_part(facts["data"]),
            device=facts["device"],
            processes=facts["processes"],
            versions=facts["versions"],
        )

    def _check_metrics(self, session: Session) -> None:
        known, losses_known = session.number_names, session.run.metric_names()[1]
        for name in self.metrics or ():
            try:
                check_known(name, known, losses_known, session.run.measures_more)
            except UnknownMetricError as error:
                raise UnknownMetricError(f"{type(self).__name__}: {error}") from None

    def act(self, session: Session) -> None:
        """Send the epoch."""
        entry = session.entries[-1]
        record = entry.record
        self._put(
            "epoch",
            droppable=True,
            epoch=record.epoch,
            planned_epochs=record.planned_epochs,
            seconds=record.elapsed,
            validated=record.validated,
            metrics=self._numbers(entry),
            decisions=[_decision(decision) for decision in entry.decisions],
        )

    def _numbers(self, entry: Entry) -> dict[str, float | None]:
        numbers = entry.numbers
        if self.metrics is not None:
            every: Mapping[str, float] = {**MetricView(entry.record), **numbers}
            numbers = {name: every[name] for name in self.metrics if name in every}
        return {name: finite_or_none(value) for name, value in numbers.items()}

    def alert(self, session: Session, alert: Alert) -> None:
        """Report that the run stands still, or goes on again."""
        epoch, planned = session.history.epoch, session.run.planned_epochs
        self._put(
            alert.event, epoch=epoch, planned_epochs=planned, stalled_seconds=alert.seconds, message=alert.message
        )

    def close(self, session: Session, error: BaseException | None) -> None:
        """Report how the run ended; the messages are sent while other callbacks complete their files."""
        stop = session.stop_decision
        status = status_of(stop, error)
        failed = error is not None and status != "preempted"
        finish = session.finish_decision
        completed = finish.message if finish else completed_in_words(session.history.epoch)
        self._put(
            "stop" if status in ("finished", "stopped") else "failure",
            epoch=session.history.epoch,
            planned_epochs=session.run.planned_epochs,
            seconds=session.history[-1].elapsed if session.history else 0.0,
            status=status,
            reason=stop.reason.value if stop else None,
            message=stop.message if stop else completed if status == "finished" else None,
            error={"type": type(error).__name__, "message": self._text(error)} if failed else None,
        )
        if self._live is not None:
            self._live.sequence.settle()
            self._live.outbox.finish(HURRY if isinstance(error, (KeyboardInterrupt, SystemExit)) else GRACE)

    def _text(self, error: BaseException | None) -> str:
        own = [*(self.headers or {}).values(), self.secret, self.url]
        return hide(str(error), [str(secret) for secret in own if secret])[:_LONGEST_TEXT]

    def deliver(self, session: Session, error: BaseException | None) -> None:
        """Wait for the last messages, for what is left of the grace period."""
        if self._live is not None:
            self._live.outbox.join()
        self._live = None

    def _put(self, event: str, *, droppable: bool = False, **content: Any) -> None:
        if self._live is None:
            return
        with self._live.sequence.lock:  # an alert comes from another thread; messages are queued in their order
            self._put_next(self._live, event, content, droppable=droppable)

    def _put_next(self, live: _Live, event: str, content: Mapping[str, Any], *, droppable: bool) -> None:
        number = live.sequence.take()
        message = {
            "schema": SCHEMA,
            "event": event,
            "id": f"{live.run['id']}-{number}",
            "sequence": number,
            "lost": 0,
            "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "run": live.run,
            **content,
        }
        live.outbox.put(message, droppable=droppable)


@dataclass(frozen=True)
class _Live:
    outbox: Outbox
    sequence: _Sequence
    run: Mapping[str, Any]


class _Sequence:
    """Numbers the messages of a run, over its resumes too. After a kill it continues with the next block."""

    def __init__(self, session: Session, label: str) -> None:
        self._files, self._label = session.files, label
        self._next = int(session.files.remembered(label).get("next", 1))
        self._end = 0
        self.lock = threading.Lock()

    def take(self) -> int:
        """Return the next number; no number is returned twice."""
        number, self._next = self._next, self._next + 1
        if number >= self._end:
            self._end = number + _BLOCK
            self._files.remember(self._label, next=self._end)
        return number

    def settle(self) -> None:
        """Save the next number, so that a resumed run leaves no gap."""
        self._files.remember(self._label, next=self._next)


def _send(webhook: Webhook, message: Mapping[str, Any], attempt: Attempt) -> None:
    content = without_secrets({**message, "lost": attempt.lost})
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    webhook.post(body, message["id"], attempt.seconds)


def _check_names(metrics: object) -> list[str] | None:
    if metrics is None:
        return None
    return check_names("metrics", metrics, "a list of names such as ['fitness', 'val_loss'], or None")


def _decision(decision: Decision) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": decision.kind, "source": decision.source, "message": decision.message}
    return {**fields, "reason": decision.reason.value} if isinstance(decision, Stop) else fields


def _last_part(path: str) -> str:
    """Return the last part of a path; folders are not sent."""
    return re.split(r"[\\/]", hide(path).rstrip("\\/"))[-1]
