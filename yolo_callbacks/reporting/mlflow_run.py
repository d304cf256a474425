"""Keeps the MLflow run of a training up to date, and ends it. Called by worker threads.

Only MLflow's client is used, with the run's id in every call: the active run of the user's process is left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_callbacks.core.entry import Entry
from yolo_callbacks.reporting.metric_names import safe_name
from yolo_callbacks.reporting.mlflow_lookup import ID_TAG, Intent, find_or_create, shortened, tag_text
from yolo_callbacks.reporting.mlflow_server import MLflowServer
from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.support.log import LOGGER

_MARK = "lr_factor"  # every epoch has it, and it is sent last, so a step with it is complete
_BATCH = 1000  # metrics that MLflow accepts at once
_PARAM_LENGTH = 500  # characters that every version of MLflow accepts
_PASSES = 3  # over the files: Ultralytics draws some plots in threads that nobody waits for
_CHANGED_BY_RESUME = ("model", "resume")
_REFUSED = "INVALID_PARAMETER_VALUE"


class MLflowRun:
    """A run at MLflow.

    `update`, `conclude`, `end` and `upload` talk to the server, however long that takes. After a failure, call the
    method again: it does only what is left to do.

    Args:
        server: The server.
        intent: What to track.
        entries: The epochs, a list that grows while the training runs.
        remember: Called with the id of the run when it is known.

    Attributes:
        server: The server.
        run_id: The id of the run, None until it is known.
    """

    def __init__(
        self, server: MLflowServer, intent: Intent, entries: Sequence[Entry], remember: Callable[[str], None]
    ) -> None:
        self.server = server
        self.run_id: str | None = None
        self._intent = intent
        self._entries = entries
        self._remember = remember
        self._earlier = len(entries)
        # times follow from the records: a metric that is sent twice is then identical, and stored once
        self._clock_start = time.time() - (entries[-1].record.elapsed if entries else 0.0)
        self._described = False
        self._known: frozenset[int] = frozenset()
        self._next = 0
        self._names: dict[str, str] = {}
        self._uploading = ""
        self._given_up = threading.Event()

    @property
    def missing(self) -> list[int]:
        """The epochs that the server may lack."""
        return [e.record.epoch for e in self._entries[self._next :] if e.record.epoch not in self._known]

    def update(self) -> None:
        """Begin the run, unless it has begun, and send the epochs that the server lacks.

        Raises:
            NotDelivered: If that is not possible now.
        """
        with self.server.asked() as client:
            self._begin(client)
            self._send_epochs(client)

    def conclude(self, tags: Mapping[str, Any], status: str | None) -> None:
        """Send the remaining epochs, and how the training ended.

        Args:
            tags: Tags to set.
            status: Status of the run; None if it is not over yet.

        Raises:
            NotDelivered: If that is not possible now.
        """
        self.update()
        with self.server.asked() as client:
            self._set_tags(client, tags)
        if status is not None:
            self.end(status)

    def end(self, status: str) -> None:
        """Set the status of the run, unless it is the user's active one.

        Raises:
            NotDelivered: If that is not possible now.
        """
        if self.run_id is None or self.run_id == self._intent.active:
            return
        with self.server.asked() as client:
            from mlflow.entities import RunStatus

            # not set_terminated: it prints the address of the server, which may contain a login
            store, now = client._tracking_client.store, int(time.time() * 1000)
            store.update_run_info(self.run_id, RunStatus.from_string(status), now, None)

    # ------------------------------------------------------------------------------------------ the beginning

    def _begin(self, client: Any) -> None:
        if self.run_id is None:
            run = find_or_create(client, self.server, self._intent)
            self._remember(str(run.info.run_id))
            self.run_id = str(run.info.run_id)
            LOGGER.info(f"MLflow: {self.server.page(run.info)}")
        if not self._described:
            self._describe(client, client.get_run(self.run_id))
            self._described = True

    def _describe(self, client: Any, run: Any) -> None:
        """Send parameters and tags, and find out which epochs the server has."""
        if self.run_id != self._intent.active:
            client.update_run(self.run_id, status="RUNNING")
        params = {safe_name(key): shortened(value, _PARAM_LENGTH) for key, value in self._intent.params.items()}
        changed = {key: value for key, value in params.items() if run.data.params.get(key, value) != value}
        self._send_params(client, {key: value for key, value in params.items() if key not in run.data.params})
        now = {f"resumed.{key}": value for key, value in changed.items()}
        self._set_tags(client, {ID_TAG: self._intent.training, **self._intent.tags, **now})
        news = [key for key in changed if key not in _CHANGED_BY_RESUME]
        if news:
            LOGGER.info(
                f"MLflow: {', '.join(news)} changed since this run began; MLflow keeps a parameter's first value, so "
                "the new one is in the tags resumed.*"
            )
        self._take_stock(client, run)

    def _send_params(self, client: Any, params: Mapping[str, str]) -> None:
        """Send parameters together; if the server rejects one, send them one by one."""
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        items = [Param(key, value) for key, value in params.items()]
        try:
            client.log_batch(self.run_id, params=items)
        except MlflowException as error:
            if error.error_code != _REFUSED:
                raise
            if len(items) == 1:
                LOGGER.warning(f"MLflow does not accept the parameter {items[0].key}: {self.server.why(error)}")
                return
            for key, value in params.items():
                self._send_params(client, {key: value})

    def _set_tags(self, client: Any, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        items = [RunTag(safe_name(key), tag_text(value)) for key, value in tags.items()]
        client.log_batch(self.run_id, tags=items)

    # ------------------------------------------------------------------------------------------ the epochs

    def _take_stock(self, client: Any, run: Any) -> None:
        """Note which earlier epochs the server has. MLflow cannot delete those that now run again."""
        if _MARK not in run.data.metrics:
            return
        steps = {point.step for point in client.get_metric_history(self.run_id, _MARK)}
        done = {entry.record.epoch for entry in self._entries[: self._earlier]}
        self._known = frozenset(steps & done)
        again = sorted(steps - done)
        if again:
            which = f"epochs {again[0]} to {again[-1]} run" if len(again) > 1 else f"epoch {again[0]} runs"
            LOGGER.info(f"MLflow: {which} again; the new values count")

    def _send_epochs(self, client: Any) -> None:
        """Send missing epochs, as many at once as MLflow accepts."""
        there = len(self._entries)
        batch: list[Any] = []
        for number in range(self._next, there):
            entry = self._entries[number]
            metrics = [] if entry.record.epoch in self._known else self._metrics(entry)
            if batch and len(batch) + len(metrics) > _BATCH:
                self._send_metrics(client, batch)
                batch, self._next = [], number
            batch += metrics
        self._send_metrics(client, batch)
        self._next = there

    def _send_metrics(self, client: Any, metrics: Sequence[Any]) -> None:
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])

    def _metrics(self, entry: Entry) -> list[Any]:
        from mlflow.entities import Metric

        numbers = dict(entry.numbers)
        numbers[_MARK] = numbers.pop(_MARK)  # to the end
        at, step = int((self._clock_start + entry.record.elapsed) * 1000), entry.record.epoch
        return [Metric(self._name(key), value, at, step) for key, value in numbers.items()]

    def _name(self, metric: str) -> str:
        """Return the unique name of a metric at the server."""
        if metric not in self._names:
            name, taken = safe_name(metric), set(self._names.values())
            while name in taken:
                name = f"{name[:240]}_"
            self._names[metric] = name
        return self._names[metric]

    # ------------------------------------------------------------------------------------------ the files

    def upload(self, files: Callable[[], Mapping[str, Path]]) -> None:
        """Upload files until the server has each as on disk, or `give_up` is called; a failure is logged.

        Args:
            files: Returns the files by their paths at the server.
        """
        done: dict[str, tuple[int, int]] = {}
        for _ in range(_PASSES):
            left = {place: path for place, path in files().items() if done.get(place) != _stamp(path)}
            for number, (place, path) in enumerate(left.items()):
                if self._given_up.is_set():
                    return
                self._uploading, stamp = place, _stamp(path)
                try:
                    with self.server.asked() as client:
                        client.log_artifact(self.run_id, str(path), place.rpartition("/")[0] or None)
                except NotDelivered as error:
                    others = f" and {len(left) - number - 1} more" * (len(left) > number + 1)
                    LOGGER.warning(f"MLflow: {place}{others} could not be uploaded: {error.why}")
                    return
                done[place] = stamp

    def give_up(self) -> str:
        """Upload no further file, and return the last one begun."""
        self._given_up.set()
        return self._uploading


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
