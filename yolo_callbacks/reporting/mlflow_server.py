"""The MLflow server: asked whether it is there before anything is sent, and told of without secrets."""

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
_PASSWORD = 6  # a shorter one would be found in text that has nothing to do with it
_LONGEST_REASON = 500
_NOISY = ("urllib3.connectionpool", "alembic.runtime.migration", "mlflow.store.db.utils")


class MLflowServer:
    """A tracking server, or a local store.

    Args:
        uri: Its address; None for MLflow's own default.

    Attributes:
        reached: Whether it has answered.
        failed: Whether something has failed.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._client: Any = None
        self.reached = self.failed = False

    @property
    def client(self) -> Any:
        """MLflow's client; importing it takes a second or more, so that is left to a worker thread.

        Raises:
            NotDelivered: If there is none for this address.
        """
        if self._client is None:
            import mlflow

            uri = self._uri or mlflow.get_tracking_uri()
            if uri.startswith(_DATABASES) and importlib.util.find_spec("sqlalchemy") is None:
                raise NotDelivered(
                    "a store without a server needs the whole of mlflow, pip install mlflow; or name a server by "
                    "tracking_uri or MLFLOW_TRACKING_URI"
                )
            self._client = mlflow.MlflowClient(uri)
        return self._client

    @property
    def shown(self) -> str:
        """Its address, as it may be shown."""
        uri = getattr(self._client, "tracking_uri", None) or self._uri
        return shown(uri).rstrip("/") if uri else "MLflow's own store"

    def page(self, info: Any) -> str:
        """Return where a run can be looked at."""
        place = f"experiments/{info.experiment_id}/runs/{info.run_id}"
        return f"{self.shown}/#/{place}" if self.shown.startswith("http") else f"{place} in {self.shown}"

    def why(self, error: Exception) -> str:
        """Return what went wrong in one line that may be shown."""
        text = " ".join(str(error).split()) or type(error).__name__
        return hide(text, _login(self._uri or ""))[:_LONGEST_REASON]

    @contextlib.contextmanager
    def asked(self) -> Iterator[Any]:
        """Give the client of a server that answers, and turn what goes wrong with it into `NotDelivered`.

        Raises:
            NotDelivered: If the server does not answer, or not as it should. There is no secret in it.
        """
        try:
            with quiet(*_NOISY):
                client = self.client
                self._probe(str(client.tracking_uri))
                yield client
        except NotDelivered:
            self.failed = True
            raise
        except Exception as error:
            self.failed = True
            raise NotDelivered(f"{self.shown}: {self.why(error)}") from None

    def _probe(self, uri: str) -> None:
        """Make sure that the server answers: MLflow's client would try for minutes, whatever comes in between."""
        if uri.startswith(("http://", "https://")):
            import requests

            try:
                answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS, allow_redirects=False)
            except requests.exceptions.SSLError:
                return  # MLflow has settings for that
            except requests.RequestException as error:
                raise NotDelivered(f"{self.shown} does not answer ({type(error).__name__})") from None
            if answer.status_code in _DOWN:
                raise NotDelivered(f"{self.shown} answers with {answer.status_code}")
        self.reached = True


def shown(uri: str) -> str:
    """Return a tracking URI as it may be shown: without login and query.

    Example:
        >>> shown("https://me:p@ss@host/mlflow"), shown("databricks")
        ('https://***@host/mlflow', 'databricks')
    """
    return hide(uri, _login(uri))


def secret_uri(uri: str) -> str:
    """Return a tracking URI that shows neither login nor query, the same one where it has none."""
    return uri if shown(uri) == uri else Secret(uri, shown(uri))


def _login(uri: str) -> list[str]:
    login = urlsplit(uri).netloc.rpartition("@")[0]
    password = login.partition(":")[2]
    return [login, *(text for text in (password, unquote(password)) if len(text) >= _PASSWORD)]
