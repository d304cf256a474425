import copy
import json
from urllib.parse import quote

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import yolo_callbacks as ycb
from yolo_callbacks.config import restore_callbacks
from yolo_callbacks.core.lineup import configuration, label
from yolo_callbacks.support.background import tell_once
from yolo_callbacks.support.secrets import HIDDEN, Secret, hide, secret_url, unless_hidden, without_secrets


def test_a_secret_is_a_string_that_does_not_show_itself():
    secret = Secret("s3cr3t", shown="https://***")
    assert (secret, secret + "!", json.dumps(secret)) == ("s3cr3t", "s3cr3t!", '"s3cr3t"')
    for again in (secret, copy.deepcopy(secret), cloudpickle.loads(cloudpickle.dumps(secret))):
        assert again == "s3cr3t"
        assert repr(again) == repr([again])[1:-1] == "'https://***'"
        assert without_secrets({"a": [again]}) == {"a": ["https://***"]}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host.org/publish/epoch/end/", "https://host.org/publish/epoch/end/"),
        ("https://host.org", "https://host.org"),
        ("https://me:pw@host.org:81/x?token=t#y", "https://***@host.org:81/x?***#***"),
        (
            "https://hooks.slack.com/services/T0/B0/abcDEF123456abcDEF123456",
            "https://hooks.slack.com/services/T0/B0/***",
        ),
        ("https://host.org/hook/7c9e6679-7425-40de-944b-e07fc1f90ae7", "https://host.org/hook/***"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert secret_url(url) == url
    assert repr(secret_url(url)) == repr(shown)


words = st.text(st.characters(categories=["L", "N"], max_codepoint=0x7F), min_size=20, max_size=40)


@given(words, words, words)
def test_nothing_of_a_login_or_a_query_is_shown(user, password, token):
    url = f"https://{user}:{quote(password)}@host.org/a?key={token}"
    for text in (repr(secret_url(url)), hide(f"cannot reach {url}: gone"), json.dumps(without_secrets({"u": url}))):
        assert not any(part in text for part in (user, password, token))
        assert "host.org/a" in text


def test_the_secrets_of_the_environment_are_hidden(monkeypatch, tmp_path):
    file = tmp_path / "credentials.json"
    file.touch()
    for name, value in {
        "WANDB_API_KEY": "abcd1234efgh",
        "HF_TOKEN": "abcd1234efgh5678",
        "DB_PASSWORD": "correct-horse",
        "SLACK_WEBHOOK": "https://hooks.example/abc",
        "YOLO_CB_NOTIFY_URLS": "ntfy://topic-of-mine, json://host.org/t0k3n",
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
        "TOKENIZERS_PARALLELISM": "true",
        "MONGO_KEY": "https://me:p@ss@host/x",
        "KEYPOINTS_LAYOUT": "coco-17-points",
        "AUTH_MODE": "segment",
        "SHORT_KEY": "1234567",
        "GIT_AUTHOR_NAME": "Ada Lovelace 1",
        "HOME_OF_MINE": "nothing-secret",
    }.items():
        monkeypatch.setenv(name, value)
    text = (
        f"abcd1234efgh5678 abcd1234efgh correct-horse https://hooks.example/abc ntfy://topic-of-mine "
        f"json://host.org/t0k3n {file} true segment 1234567 Ada Lovelace 1 nothing-secret coco-17-points"
    )
    shown = f"{' '.join([HIDDEN] * 6)} {file} true segment 1234567 Ada Lovelace 1 nothing-secret coco-17-points"
    assert hide(text) == shown
    assert without_secrets({"error": [text]}) == {"error": [shown]}
    assert hide("a named-one", ["named-one"]) == "a ***"


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "X-Api-Key",
        "AWS_SECRET_ACCESS_KEY",
        "token",
        "authToken",
        "HF_TOKEN",
        "password",
        "DB_PASSWORD",
        "PGPASSWORD",
        "pwd",
        "secret",
        "client_secret",
        "Authorization",
        "auth",
        "credentials",
        "SLACK_WEBHOOK",
        "private_key",
        "APIKEY",
    ],
)
def test_the_names_of_secrets_hide_what_they_name(name):
    assert without_secrets({"tags": {name: "17"}, "list": [{name: ["x"]}]}) == {
        "tags": {name: HIDDEN},
        "list": [{name: [HIDDEN]}],
    }


@pytest.mark.parametrize(
    "name",
    [
        "keypoints",
        "key",
        "monkey",
        "keyboard",
        "tokenizer",
        "max_tokens",
        "author",
        "authors",
        "passed",
        "compass",
        "sort_key",
        "secretary",
    ],
)
def test_a_name_that_only_holds_such_a_word_hides_nothing(name):
    assert without_secrets({"tags": {name: "17"}}) == {"tags": {name: "17"}}


def test_a_callback_is_built_again_as_it_was():
    groups = {"keypoints": "model.23.*", "token": ["model.0.*", "model.1.*"], "password": "model.2.*"}
    callbacks = [
        ycb.GradientMonitor(groups=groups),
        ycb.PlatformLogger({"secret": "fitness", "keypoints": "val_loss"}),
    ]
    kept = json.loads(json.dumps(without_secrets(configuration(label(callbacks)))))
    assert repr(restore_callbacks(kept)) == repr(callbacks)
    assert restore_callbacks(kept)[0].groups == groups


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1B2c3D4e5" * 4,
        "hf_" + "aBcDeFgHiJ" * 4,
        "glpat-abcDEF123456abcDEF12",
        "xoxb-1234567890-abcdef",
        "sk-proj-aB3dE6gH9jK2mN5pQ8sT",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1g",
    ],
)
def test_values_that_look_like_secrets_are_hidden(token):
    assert hide(f"401 for {token}, given up") == "401 for ***, given up"
    assert hide(f"Authorization: Bearer {token}").endswith(f"Bearer {HIDDEN}")
    assert without_secrets({"tags": {"note": token}}) == {"tags": {"note": HIDDEN}}


@pytest.mark.parametrize(
    "text",
    [
        "task-segmentation-of-very-many-classes-2024",
        "sk-a-dataset-with-a-long-name-2024",
        "hf_detection_transformer_base_model_v2",
        "basic training continues",
        "weights/mAP50-95-B-0012-0.51234.pt",
        "0f3c9ad2b1e84d7795ab0f3c9ad2b1e84d7795ab0f3c9ad2b1e84d7795ab1234",
    ],
)
def test_ordinary_values_are_left(text):
    assert hide(text) == text


@pytest.mark.parametrize("password", ["p@ss", "p@ss@w", "p?ss", "p#ss", 'p"ss', "@", "p@ss?x#y@z"])
def test_no_part_of_a_password_is_shown(password):
    url = f"https://me:{password}@host/x"
    assert hide(f"cannot reach {url}: gone") == "cannot reach https://***@host/x: gone"
    assert without_secrets({"url": url}) == {"url": "https://***@host/x"}
    assert repr(secret_url(url)) == "'https://***@host/x'"


def test_an_at_sign_that_is_no_login_is_left():
    for text in ("https://host/@scope/me@x", "https://host/x, me@example.org", "me@example.org"):
        assert hide(text) == text


def test_an_error_that_is_told_hides_the_secrets_of_the_environment(monkeypatch, said):
    monkeypatch.setenv("MY_API_KEY", "abcd1234efgh")
    tell_once(set(), "X.act", RuntimeError("401 for abcd1234efgh"))
    assert said.warnings == ["X.act failed; training continues: RuntimeError: 401 for ***"]


def test_what_run_json_hides_must_come_from_the_environment(monkeypatch):
    assert unless_hidden("url", "https://x", "A_URL") == "https://x"
    assert unless_hidden("url", None, "A_URL") is None
    for value in ("https://***@x", ["ntfy://***"]):
        with pytest.raises(ValueError, match=r"url is hidden in run\.json: set the environment variable A_URL"):
            unless_hidden("url", value, "A_URL")
    monkeypatch.setenv("A_URL", "https://y")
    assert unless_hidden("url", "https://***@x", "A_URL") is None
