"""Finds or creates the MLflow run of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yolo_callbacks.reporting.mlflow_server import MLflowServer
from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.support.log import LOGGER

ID_TAG = "yolo_callbacks.id"
"""The tag with the id of the training, to find its run again."""

_TAG_LENGTH = 5000  # characters that every version of MLflow accepts
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Intent:
    """What to track, collected on the training thread.

    Attributes:
        training: Id of the training; a resume keeps it.
        experiment: Name of the experiment.
        experiment_id: Its id, if only that is known.
        name: Name of the run.
        params: Parameters.
        tags: Tags of this part of the training.
        first_tags: Tags of a new run, in addition to those that MLflow derives from the process.
        remembered: Id of the run that an earlier part of the training created.
        given: Id of the run that the user wants to continue.
        parent: Id of the run under which a new one is nested.
        active: Id of the user's active run, which is not ours to end.
    """

    training: str
    experiment: str = ""
    experiment_id: str | None = None
    name: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    first_tags: Mapping[str, Any] = field(default_factory=dict)
    remembered: str | None = None
    given: str | None = None
    parent: str | None = None
    active: str | None = None


def find_or_create(client: Any, server: MLflowServer, intent: Intent) -> Any:
    """Return the MLflow run of a training.

    Raises:
        NotDelivered: If its experiment is deleted.
        MlflowException: If the server refuses.
    """
    return _find(client, server, intent) or _create(client, intent)


def tag_text(value: Any) -> str:
    """Return a tag's value at a length that MLflow accepts."""
    return shortened(value, _TAG_LENGTH)


def shortened(value: Any, length: int) -> str:
    """Return a value as text of at most `length` characters; a longer text ends in a note that says so."""
    text = str(value)
    if len(text) <= length:
        return text
    note = f"... ({len(text)} characters, all in run.json)"
    return text[: length - len(note)] + note


def _find(client: Any, server: MLflowServer, intent: Intent) -> Any:
    """Return the run to continue, None if there is none."""
    if intent.remembered:
        run = _get(client, intent.remembered)
        if run is not None:
            return run
        LOGGER.warning(
            f"MLflow: the run of this training, {intent.remembered}, no longer exists at {server.shown}; a new one is "
            "created"
        )
    if intent.given:
        run = _get(client, intent.given)
        if run is not None and run.data.tags.get(ID_TAG, intent.training) == intent.training:
            return run
        problem = f"does not exist at {server.shown}" if run is None else "belongs to another training"
        LOGGER.warning(f"MLflow: the run {intent.given} {problem}; a new one is created")
    # a run whose id was lost because the process or the connection died
    wanted = f"tags.`{ID_TAG}` = '{intent.training}'"
    found = client.search_runs([_experiment(client, intent)], wanted, max_results=1)
    return found[0] if found else None


def _get(client: Any, run_id: str) -> Any:
    """Return a run, None if it is missing or deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in _NOT_THERE:
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _experiment(client: Any, intent: Intent) -> str:
    """Return the id of the experiment; it is created if necessary."""
    from mlflow.exceptions import MlflowException

    if intent.experiment_id:
        return intent.experiment_id
    name = intent.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise NotDelivered(f"the experiment {name!r} is deleted: restore it, or choose another name", again=False)
    return str(found.experiment_id)


def _create(client: Any, intent: Intent) -> Any:
    from mlflow.tracking.context.registry import resolve_tags

    parent = {"mlflow.parentRunId": intent.parent} if intent.parent else {}
    tags = {**resolve_tags(), **intent.first_tags, **parent, ID_TAG: intent.training}
    texts = {key: tag_text(value) for key, value in tags.items()}
    return client.create_run(_experiment(client, intent), tags=texts, run_name=intent.name)
