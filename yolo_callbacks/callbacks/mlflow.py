"""MLflow: track the training as an MLflow run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.reporting.deliverables import GROUPS, deliverables
from yolo_callbacks.reporting.mlflow_lookup import Intent
from yolo_callbacks.reporting.mlflow_run import MLflowRun
from yolo_callbacks.reporting.mlflow_server import MLflowServer, secret_uri
from yolo_callbacks.reporting.outbox import HURRY, Outbox
from yolo_callbacks.session.run_files import status_of
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.checks import check_bool, check_choice, check_names, check_number, quoted
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.optional_packages import require
from yolo_callbacks.support.secrets import unless_hidden, without_secrets
from yolo_callbacks.trainer.ranks import is_worker

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session

_NOTE = "MLflow"
_UPDATE = "update"
_STATUS = {"failed": "FAILED", "interrupted": "KILLED", "preempted": "KILLED"}  # FINISHED otherwise
_EXPERIMENT = "/Shared/Ultralytics"  # Ultralytics' own default
_STATUS_TIMEOUT = 10.0  # seconds for the final status, after an upload that took too long
_NEVER_REACHED_TIMEOUT = 5.0  # seconds for a server that has never answered


class MLflow(Callback):
    """Track the training as an MLflow run: parameters, metrics, tags, files, and status.

    A background thread sends everything. A server that is slow or down does not delay the training, and receives what
    it missed when it is back. A resumed training continues in the same MLflow run. A run that is active in your
    process (`mlflow.start_run()`) becomes its parent. Your active run, experiment and tracking URI do not change. If
    Ultralytics' own MLflow logging is on, it is switched off for the run, so that nothing is logged twice.

    | in MLflow | content |
    |---|---|
    | parameters | the trainer's arguments, and the callbacks' (`EarlyStopping.patience`, ...); cut at 500 characters |
    | metrics | all numbers of an epoch at step = epoch (counted from 1), named as in `epochs.csv`, without brackets |
    | tags | `yolo_callbacks.id` (the training's id), `task`, `device`, `processes`, `save_dir`, `version.*`; |
    | | at the end `epochs`, `stop.reason`, `stop.message`, `stop.epoch`, `error`; |
    | | in a resumed run `resumed_after`, `resumed.*` |
    | artifacts | `weights/best.pt`, the best of `ModelCheckpoint`, `export/`, plots, CSV files, `run.json`, journal |
    | status | `FINISHED` (an early stop too), `FAILED` after an exception, `KILLED` after Ctrl-C or a preemption |

    MLflow keeps the first value of a parameter: if a resumed training has a new one, such as for `epochs`, it becomes
    the tag `resumed.epochs`. MLflow stores infinite numbers as the largest finite ones.

    A process that is killed leaves the run `RUNNING` until it is resumed. Files are uploaded when the training ends,
    but not when it is interrupted: then the end of the resumed training uploads them.

    As in Ultralytics, arguments that are None are read from the environment: `MLFLOW_TRACKING_URI`,
    `MLFLOW_EXPERIMENT_NAME`, `MLFLOW_EXPERIMENT_ID`, `MLFLOW_RUN_ID`, and `MLFLOW_RUN` (the run's name). MLflow itself
    reads the credentials (`MLFLOW_TRACKING_TOKEN`, `MLFLOW_TRACKING_USERNAME`, ...).

    Args:
        experiment_name: Name of the experiment, created if necessary. Defaults to None: that of the active run, or
            of the environment, or the training's `project`, or `/Shared/Ultralytics`.
        run_name: Name of the run. Defaults to None: `MLFLOW_RUN`, or the name of the run directory.
        tracking_uri: Address of the server or store. Defaults to None: that of `mlflow.set_tracking_uri` or the
            environment, or MLflow's local store.
        tags: Additional tags. Defaults to None.
        log_artifacts: Whether to upload files, or a list of which: `"logs"`, `"plots"`, `"checkpoints"`, `"exports"`.
            Defaults to True.
        run_id: An existing run to continue, unless it belongs to another training. Defaults to None: a new run, unless
            `MLFLOW_RUN_ID` is set.
        nested: Whether a run that is active in this process becomes the parent. Defaults to True.
        timeout: Seconds that the end of the training waits for parameters, metrics and tags, >= 0. Defaults to 30.
        artifacts_timeout: Seconds that it waits for the upload of files, >= 0. Defaults to 600.0.

    Raises:
        ImportError: If mlflow is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or empty.

    Example:
        ```python
        ycb.attach(model, [ycb.ModelCheckpoint(export="onnx"), ycb.MLflow("pedestrians", tags={"site": "north"})])
        model.train(data="coco8.yaml", epochs=100)
        ```
    """

    priority = Priority.REPORT

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
        log_artifacts: bool | Iterable[str] = True,
        run_id: str | None = None,
        nested: bool = True,
        timeout: float = 30.0,
        artifacts_timeout: float = 600.0,
    ) -> None:
        require("mlflow", who="MLflow")
        self.experiment_name = _check_text("experiment_name", experiment_name)
        self.run_name = _check_text("run_name", run_name)
        uri = unless_hidden("tracking_uri", _check_text("tracking_uri", tracking_uri), "MLFLOW_TRACKING_URI")
        try:
            self.tracking_uri = uri and secret_uri(uri)
        except ValueError:  # its text may hold the login
            raise ValueError("tracking_uri is not a valid address: the part after '://' cannot be read") from None
        self.tags = _check_tags(tags)
        self.log_artifacts = _check_groups(log_artifacts)
        self.run_id = _check_text("run_id", run_id)
        self.nested = check_bool("nested", nested)
        self.timeout = check_number("timeout", timeout, minimum=0.0)
        self.artifacts_timeout = check_number("artifacts_timeout", artifacts_timeout, minimum=0.0)
        self._launcher: dict[str, Any] = {}
        self._run: MLflowRun | None = None
        self._outbox: Outbox | None = None

    @property
    def current_run_id(self) -> str | None:
        """Id of the MLflow run of the newest training in this process; None until the server has assigned it."""
        return self._run.run_id if self._run is not None else None

    def setup(self, session: Session) -> None:
        """Queue the creation of the run, or its continuation."""
        self._run = self._outbox = None
        if session.run.replace_integration("mlflow"):
            LOGGER.info("MLflow: Ultralytics' own MLflow logging is off for this run, so nothing is logged twice")
        around = self._around()
        server = MLflowServer(self.tracking_uri or around["uri"])
        remember = partial(self._remember, session)
        self._run = MLflowRun(server, self._intent(session, around), session.entries, remember)
        self._outbox = Outbox("MLflow", _call)
        self._outbox.put(self._run.update, key=_UPDATE)

    def act(self, session: Session) -> None:
        """Queue the epoch, and everything that the server has missed."""
        if self._run is not None and self._outbox is not None:
            self._outbox.put(self._run.update, key=_UPDATE)

    def deliver(self, session: Session, error: BaseException | None) -> None:
        """Send what is left, upload the files, and end the run, each within its timeout."""
        run, outbox = self._run, self._outbox
        if run is None or outbox is None:
            return
        stop = session.stop_decision
        status = _STATUS.get(status_of(stop, error), "FINISHED")
        tags: dict[str, Any] = {"epochs": session.history.epoch, **(_of_stop(stop) if stop is not None else {})}
        if error is not None:
            tags["error"] = without_secrets(f"{type(error).__name__}: {error}".removesuffix(": "))
        groups = () if status == "KILLED" else self._groups
        troubled = run.server.failed and not run.server.reached
        outbox.put(partial(run.conclude, tags, None if groups else status), key=_UPDATE)
        limit = HURRY if status == "KILLED" else _NEVER_REACHED_TIMEOUT if troubled else self.timeout
        outbox.finish(min(limit, self.timeout))
        if not outbox.join():
            missing = run.missing
            what = f"epochs {missing[0]} to {missing[-1]}" if missing else "how the training ended"
            LOGGER.warning(
                f"MLflow: {what} did not reach {run.server.shown}; all of it is in {session.run.callbacks_dir}"
            )
        elif groups:
            checkpoints = session.files.checkpoints.stored
            self._upload(run, partial(deliverables, session.run.save_dir, checkpoints, groups), status)

    def _upload(self, run: MLflowRun, files: Any, status: str) -> None:
        uploads, last = Background("MLflow files"), Background("MLflow status")
        try:
            uploads.submit("uploading to MLflow", partial(run.upload, files))
            if not uploads.close(self.artifacts_timeout):
                place = run.give_up()
                LOGGER.warning(
                    f"MLflow: the upload took longer than artifacts_timeout={self.artifacts_timeout:g} s and was "
                    f"stopped at {place}"
                )
        finally:  # also after Ctrl-C
            run.give_up()
            last.submit("ending the MLflow run", partial(run.end, status))
            last.close(_STATUS_TIMEOUT)

    # ------------------------------------------------------------------------------------------ what to track

    def _around(self) -> dict[str, Any]:
        """Return MLflow's settings in the user's process, which may have launched this one."""
        return {**_surroundings(), **(self._launcher if is_worker() else {})}

    def _intent(self, session: Session, around: Mapping[str, Any]) -> Intent:
        elsewhere = self.tracking_uri not in (None, around["uri"])
        active = None if elsewhere else around["active"]
        parent = active if self.nested else None
        about, given = session.run.describe(), self.run_id or os.environ.get("MLFLOW_RUN_ID")
        args = about.pop("args")
        versions = {f"version.{name}": version for name, version in about.pop("versions").items()}
        return Intent(
            training=session.id,
            **self._experiment(args, around if parent else {}),
            name=self.run_name or os.environ.get("MLFLOW_RUN") or session.run.save_dir.name,
            params=without_secrets({**args, **_flat(configuration(session.callbacks))}),
            tags=without_secrets(
                {
                    **{name: about[name] for name in ("task", "device", "processes")},
                    **versions,
                    "save_dir": str(session.run.save_dir),
                    **({"resumed_after": session.run.epochs_before} if session.run.resumed else {}),
                    **(self.tags or {}),
                }
            ),
            first_tags={"mlflow.source.name": around["source"]} if is_worker() else {},
            remembered=session.files.remembered(_NOTE).get("run_id"),
            given=given,
            parent=parent,
            active=active,
        )

    def _experiment(self, args: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, str]:
        """Return the experiment, by name or by id."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        number = parent.get("experiment_id") or (os.environ.get("MLFLOW_EXPERIMENT_ID") if not name else None)
        if number and not self.experiment_name:
            return {"experiment_id": number}
        return {"experiment": self.experiment_name or name or str(args.get("project") or _EXPERIMENT)}

    @property
    def _groups(self) -> tuple[str, ...]:
        if isinstance(self.log_artifacts, bool):
            return GROUPS if self.log_artifacts else ()
        return tuple(self.log_artifacts)

    def _remember(self, session: Session, run_id: str) -> None:
        session.files.remember(_NOTE, run_id=run_id)

    # ------------------------------------------------------------------------------------------ to other processes

    def __getstate__(self) -> dict[str, Any]:
        """Take along which run is active here: the training may be in a process that this one launches."""
        launcher = {name: value for name, value in _surroundings().items() if name != "uri"}  # the environment has it
        return {**self.__dict__, "_run": None, "_outbox": None, "_launcher": launcher}

    def __repr__(self) -> str:
        config = without_secrets(self.get_config())
        return f"MLflow({', '.join(f'{name}={value!r}' for name, value in config.items())})"


def _call(message: Any, attempt: Any = None) -> None:
    message()


def _surroundings() -> dict[str, Any]:
    """Return MLflow's settings in this process; if mlflow is not imported, it has none but the environment's."""
    mlflow = sys.modules.get("mlflow")
    active = getattr(mlflow, "active_run", lambda: None)()
    is_set = getattr(mlflow, "is_tracking_uri_set", lambda: False)()
    return {
        "active": active.info.run_id if active is not None else None,
        "experiment_id": active.info.experiment_id if active is not None else None,
        "uri": mlflow.get_tracking_uri() if mlflow is not None and is_set else os.environ.get("MLFLOW_TRACKING_URI"),
        "source": sys.argv[0] if sys.argv else "",
    }


def _of_stop(stop: Any) -> dict[str, Any]:
    return {"stop.reason": stop.reason.value, "stop.message": stop.message, "stop.epoch": stop.epoch}


def _flat(callbacks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{label}.{name}": value
        for label, config in callbacks.items()
        for name, value in config.items()
        if config["class"] != MLflow.__name__ and name != "class"
    }


def _check_text(name: str, value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name}={quoted(value)} must be a string that is not empty, or None")
    return value


def _check_tags(value: object) -> dict[str, Any] | None:
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise TypeError(f"tags={quoted(value)} must be a dict with names as keys, or None")
    return dict(value) if isinstance(value, Mapping) else None


def _check_groups(value: object) -> bool | list[str]:
    if isinstance(value, bool):
        return value
    names = check_names("log_artifacts", value, f"True, False, or a list of {', '.join(map(repr, GROUPS))}")
    return [check_choice("log_artifacts", name, GROUPS) for name in names]
