"""The MLflow server: probed before anything is sent, and named in messages without secrets."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.support.log import quiet
from yolo_callbacks.support.secrets import Secret, hide

_PROBE_SECONDS = 5.0
_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
_DOWN = (502, 503, 504)
_MIN_PASSWORD = 6  # shorter ones are not hidden: they would match unrelated text
_MAX_REASON = 500
_NOISY = ("urllib3.connectionpool", "alembic.runtime.migration", "mlflow.store.db.utils")


class MLflowServer:
    """A tracking server, or a local store.

    Args:
        uri: Its address; None for MLflow's own default.

    Attributes:
        reached: Whether it has answered.
        failed: Whether a request has failed.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._client: Any = None
        self.reached = self.failed = False

    @property
    def client(self) -> Any:
        """MLflow's client. Importing it takes a second or more, so a worker thread does it.

        Raises:
            NotDelivered: If there is none for this address.
        """
        if self._client is None:
            import mlflow

            uri = self._uri or mlflow.get_tracking_uri()
            if uri.startswith(_DATABASES) and importlib.util.find_spec("sqlalchemy") is None:
                raise NotDelivered(
                    "a local store needs the full mlflow package: pip install mlflow, or name a server with "
                    "tracking_uri or MLFLOW_TRACKING_URI"
                )
            self._client = mlflow.MlflowClient(uri)
        return self._client

    @property
    def shown(self) -> str:
        """Its address, without secrets."""
        uri = getattr(self._client, "tracking_uri", None) or self._uri
        return shown(uri).rstrip("/") if uri else "MLflow's default store"

    def page(self, info: Any) -> str:
        """Return where to view a run."""
        place = f"experiments/{info.experiment_id}/runs/{info.run_id}"
        return f"{self.shown}/#/{place}" if self.shown.startswith("http") else f"{place} in {self.shown}"

    def why(self, error: Exception) -> str:
        """Return the reason of an error in one line, without secrets."""
        text = " ".join(str(error).split()) or type(error).__name__
        return hide(text, _login(self._uri or ""))[:_MAX_REASON]

    @contextlib.contextmanager
    def asked(self) -> Iterator[Any]:
        """Yield the client of a server that answers, and turn any error into `NotDelivered`.

        Raises:
            NotDelivered: If the server does not answer, or not as it should. The error holds no secret.
        """
        try:
            with quiet(*_NOISY):
                client = self.client
                self._probe(str(client.tracking_uri))
                yield client
                self.reached = True  # also where only MLflow knows the certificate
        except NotDelivered:
            self.failed = True
            raise
        except Exception as error:
            self.failed = True
            raise NotDelivered(f"{self.shown}: {self.why(error)}") from None

    def _probe(self, uri: str) -> None:
        """Check that the server answers: MLflow's client would retry for minutes and could not be interrupted."""
        if uri.startswith(("http://", "https://")):
            import requests

            try:
                answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS, allow_redirects=False)
            except requests.exceptions.SSLError:
                return  # MLflow has its own settings for certificates
            except requests.RequestException as error:
                raise NotDelivered(f"{self.shown} does not answer ({type(error).__name__})") from None
            if answer.status_code in _DOWN:
                raise NotDelivered(f"{self.shown} answered {answer.status_code}")
        self.reached = True


def shown(uri: str) -> str:
    """Return a tracking URI without login and query.

    Example:
        >>> shown("https://me:p@ss@host/mlflow"), shown("databricks")
        ('https://***@host/mlflow', 'databricks')
    """
    return hide(uri, _login(uri))


def secret_uri(uri: str) -> str:
    """Return a tracking URI as a secret that shows neither login nor query; unchanged if it has neither."""
    return uri if shown(uri) == uri else Secret(uri, shown(uri))


def _login(uri: str) -> list[str]:
    login = urlsplit(uri).netloc.rpartition("@")[0]
    password = login.partition(":")[2]
    return [login, *(text for text in (password, unquote(password)) if len(text) >= _MIN_PASSWORD)]
