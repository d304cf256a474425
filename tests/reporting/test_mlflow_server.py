"""A server of MLflow is asked whether it is there before anything is sent, and no message holds its password."""

import importlib.util
import os
from types import SimpleNamespace

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tests.receiver import Receiver, free_port
from yolo_callbacks.reporting.mlflow_server import MLflowServer, secret_uri, shown
from yolo_callbacks.reporting.outbox import NotDelivered
from yolo_callbacks.support.secrets import without_secrets

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported


def server_at(uri):
    """Return a server whose client is made up: only its address is asked for."""
    server = MLflowServer(uri)
    server._client = SimpleNamespace(tracking_uri=uri)
    return server


def asked(server, error=None):
    """Ask a server; return why that failed, or None."""
    try:
        with server.asked() as client:
            assert client is server.client
            if error is not None:
                raise error
    except NotDelivered as failure:
        assert server.failed
        return failure.why
    return None


# ------------------------------------------------------------------------------------------------- asking


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])  # a proxy may know nothing of /health
def test_a_server_that_answers_is_there(status):
    with Receiver((status, {"Location": "http://127.0.0.1:1/"} if status == 302 else {})) as http:
        server = server_at(f"{http.url}/")
        assert asked(server) is None
        assert [request.path for request in http.requests] == ["/health"]
    assert (server.reached, server.failed) == (True, False)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_may_say_that_the_server_is_down(status):
    with Receiver((status, {})) as http:
        server = server_at(http.url)
        assert asked(server) == f"{http.url} answered {status}"
        assert not server.reached
        assert asked(server) is None  # it is up again
        assert server.reached


def test_a_server_that_is_not_there_is_named_without_its_login():
    host = f"127.0.0.1:{free_port()}"
    server = server_at(f"http://me:pa55word@{host}")
    assert asked(server) == f"http://***@{host} does not answer (ConnectionError)"
    assert not server.reached


def test_certificates_are_left_to_mlflow(monkeypatch):
    def refuse(*_, **__):
        raise requests.exceptions.SSLError("self-signed")

    monkeypatch.setattr(requests, "get", refuse)
    server = server_at("https://host")
    assert not server.reached
    assert asked(server) is None
    assert server.reached


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "/mlruns", "databricks"])
def test_what_is_no_web_server_is_not_asked(uri, monkeypatch):
    monkeypatch.setattr(requests, "get", None)
    server = server_at(uri)
    assert asked(server) is None
    assert server.reached


def test_an_error_of_the_client_is_told_with_the_server_and_without_its_login():
    server = server_at("sqlite://me:pa55word@host/db")
    assert asked(server, ValueError("no login\nfor pa55word")) == "sqlite://***@host/db: no login for ***"
    refused = NotDelivered("the experiment is deleted", again=False)
    with pytest.raises(NotDelivered) as caught, server.asked():
        raise refused
    assert caught.value is refused


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_process_comes_out(error):
    server = server_at("/mlruns")
    with pytest.raises(error), server.asked():
        raise error
    assert not server.failed


# ------------------------------------------------------------------------------------------------- the client


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "postgresql://me:pa55word@host/db"])
def test_a_database_needs_the_whole_package(uri, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    why = asked(MLflowServer(uri))
    assert why.startswith("a local store needs the full mlflow package: pip install mlflow, or name a server")
    assert "pa55word" not in why


def test_the_client_is_made_once_and_for_the_address_of_the_process_if_none_is_given(monkeypatch):
    import mlflow

    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://of-the-process")
    given, default = MLflowServer("http://given"), MLflowServer(None)
    assert default.shown == "MLflow's default store"
    assert (given.client.tracking_uri, default.client.tracking_uri) == ("http://given", "http://of-the-process")
    assert given.client is given.client
    assert default.shown == "http://of-the-process"


# ------------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://host:5000", "http://host:5000"),
        ("http://me:pa55word@host/mlflow", "http://***@host/mlflow"),
        ("http://host/mlflow?token=s3cret", "http://host/mlflow?***"),
        ("postgresql://me:p@ss@host/db", "postgresql://***@host/db"),
        ("databricks", "databricks"),
        ("/home/me/mlruns", "/home/me/mlruns"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri, expected):
    assert shown(uri) == expected
    kept = secret_uri(uri)
    assert kept == uri  # whoever needs it has the whole of it
    assert without_secrets(kept) == expected


@given(st.text(alphabet="abcdefgh0123456789", min_size=6))
def test_a_password_is_not_in_what_an_error_says(password):
    quoted = "%61" + password
    server = MLflowServer(f"https://me:{quoted}@host")
    for text in (f"bad {quoted}", f"bad a{password}", f"at https://me:{quoted}@host/api"):
        assert password not in server.why(ValueError(text))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("one\n\n  two"), "one two"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 501), "x" * 500),
        (ValueError("ok"), "ok"),  # a password that short would be found in any text
    ],
)
def test_the_reason_of_an_error_is_one_short_line(error, why):
    assert MLflowServer("http://me:ok@host").why(error) == why


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://me:pa55word@host/mlflow/", "http://***@host/mlflow/#/experiments/1/runs/a"),
        ("sqlite:///mlflow.db", "experiments/1/runs/a in sqlite:///mlflow.db"),
        (None, "experiments/1/runs/a in MLflow's default store"),
    ],
)
def test_where_a_run_can_be_seen(uri, page):
    assert MLflowServer(uri).page(SimpleNamespace(experiment_id="1", run_id="a")) == page
