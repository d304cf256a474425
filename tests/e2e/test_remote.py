"""One real training that fails and is resumed, told to real servers: every message, and no secret anywhere."""

import base64
import json
import logging
import re
import threading
import time
from types import SimpleNamespace
from urllib.parse import unquote_to_bytes

import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL
from tests.receiver import TIMEOUT, Receiver, free_port
from tests.reporting.test_webhook import hmac_sha256

SECRETS = {
    "login": "somebody-of-ours",
    "password": "pa55word-of-ours",
    "query": "qu3ry-t0ken",
    "path": "0f3c9ad2b1e84d7795ab",
    "header": "Bearer-h3ader-t0ken",
    "signing": "s1gning-s3cret",
    "topic": "t0pic-of-ours",
    "environment": "wandb-k3y-0123456789",
}
EPOCHS = 4
BROKEN = 3  # the epoch that the user's own function breaks


@pytest.fixture(scope="module")
def story(shapes, tmp_path_factory):
    """Train until a user's function raises, resume to the end; return what was received, logged and written."""
    folder, lines, gate = tmp_path_factory.mktemp("remote"), [], threading.Event()

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(f"{record.name}: {record.getMessage()}")

    def hang():
        gate.wait(10 * TIMEOUT)
        return 200, {}

    def fail(trainer):
        if trainer.epoch == BROKEN - 1:
            raise RuntimeError(f"no answer from https://{SECRETS['login']}@store/x, key {SECRETS['environment']}")

    handler, names = Keep(), ("ultralytics", "", "apprise", "urllib3", "requests")
    levels = {name: logging.getLogger(name).level for name in names}
    environment = {"YOLO_CB_REMOTE_SECRET": SECRETS["signing"], "WANDB_API_KEY": SECRETS["environment"]}
    with Receiver() as server, Receiver() as form, Receiver() as hanging, pytest.MonkeyPatch.context() as patch:
        hanging.always = hang
        for name, value in environment.items():
            patch.setenv(name, value)
        for name in names:
            logging.getLogger(name).addHandler(handler)
            logging.getLogger(name).setLevel(logging.DEBUG)

        def callbacks():
            login = f"{SECRETS['login']}:{SECRETS['password']}@"
            url = f"{server.url.replace('://', '://' + login)}/{SECRETS['path']}?token={SECRETS['query']}"
            return [
                ycb.CSVLogger(),
                ycb.PlotLogger(),
                ycb.EarlyStopping(patience=50),
                ycb.RemoteMonitor(url, {"X-Token": SECRETS["header"]}),
                ycb.Notify(
                    f"form://127.0.0.1:{form.port}/{SECRETS['topic']}", min_interval_minutes=0, monitor="train_loss"
                ),
            ]

        def dead():
            return [
                ycb.RemoteMonitor(f"{hanging.url}/{SECRETS['path']}", timeout=5 * TIMEOUT),
                ycb.RemoteMonitor(f"http://127.0.0.1:{free_port()}"),
                ycb.Notify(f"json://127.0.0.1:{free_port()}/{SECRETS['topic']}"),
            ]

        try:
            model = YOLO(TINY_MODEL, verbose=False)
            first = ycb.attach(model, callbacks())
            model.add_callback("on_train_epoch_start", fail)
            settings = {**TINY, "data": str(shapes), "epochs": EPOCHS, "project": str(folder), "name": "run"}
            with pytest.raises(RuntimeError, match="no answer") as error:
                model.train(**settings)
            pictures = (folder / "run" / "callbacks" / "curves.png").read_bytes()
            model = YOLO(folder / "run" / "weights" / "last.pt")
            ended = []
            model.add_callback("on_train_end", lambda trainer: ended.append(time.monotonic()))  # before ours
            resumed = ycb.attach(model, [*callbacks(), *dead()])
            model.train(resume=True)
            took = time.monotonic() - ended[0]
        finally:
            gate.set()
            for name, level in levels.items():
                logging.getLogger(name).removeHandler(handler)
                logging.getLogger(name).setLevel(level)
        yield SimpleNamespace(
            folder=folder / "run",
            requests=list(server.requests),
            messages=[request.json for request in server.requests],
            form=list(form.requests),
            log="\n".join(lines),
            error=error.value,
            attachments=(first, resumed),
            picture=pictures,
            took=took,
        )


def test_every_message_comes_once_and_in_order(story):
    events = ["start", "epoch", "epoch", "failure", "resume", "epoch", "epoch", "stop"]
    assert [message["event"] for message in story.messages] == events
    assert [message["sequence"] for message in story.messages] == list(range(1, 9))
    assert [message["epoch"] for message in story.messages] == [0, 1, 2, 2, 2, 3, 4, 4]
    assert {message["planned_epochs"] for message in story.messages} == {EPOCHS}
    assert {message["lost"] for message in story.messages} == {0}
    noted = json.loads((story.folder / "callbacks" / "run.json").read_text())
    run = {"id": noted["id"], "name": "run", "project": story.folder.parent.name, "task": "detect"}
    assert [message["run"] for message in story.messages[:4]] == [{**run, "model": "tiny26.yaml"}] * 4
    assert {message["run"]["id"] for message in story.messages} == {noted["id"]}
    assert story.messages[-1]["status"] == noted["status"] == "finished"


def test_an_epoch_has_the_numbers_of_epochs_csv(story):
    rows = story.attachments[1].history
    for message in story.messages:
        if message["event"] != "epoch":
            continue
        row = rows.loc[message["epoch"]]
        assert {"train/box_loss", "metrics/mAP50-95(B)", "lr/pg0", "fitness", "seconds", "EarlyStopping/wait"} <= set(
            message["metrics"]
        )
        for name, value in message["metrics"].items():
            assert value == pytest.approx(row[name]), name
        assert message["seconds"] == pytest.approx(row["elapsed"])


def test_the_failure_says_what_it_was_and_no_secret(story):
    failure = story.messages[3]
    assert (failure["status"], failure["reason"]) == ("failed", None)
    assert failure["error"] == {"type": "RuntimeError", "message": "no answer from https://***@store/x, key ***"}
    noted = json.loads((story.folder / "callbacks" / "run.json").read_text())
    assert noted["error"] is None  # the run went on, and finished
    assert SECRETS["environment"] in str(story.error)  # who catches it gets it as it was raised


def test_every_message_is_signed(story):
    for request in story.requests:
        headers = request.headers
        signed = f"{request.json['id']}.{headers['webhook-timestamp']}.".encode() + request.body
        expected = base64.b64encode(hmac_sha256(SECRETS["signing"].encode(), signed)).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert headers["webhook-id"] == request.json["id"]
        assert headers["x-token"] == SECRETS["header"]
        login = f"{SECRETS['login']}:{SECRETS['password']}"
        assert base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode() == login
        assert request.path == f"/{SECRETS['path']}?token={SECRETS['query']}"


def test_people_are_told_with_the_last_picture(story):
    texts = [unquote_to_bytes(request.body.replace(b"+", b" ")) for request in story.form]
    headlines = [re.search(rb"run: ([a-z ]+)", text)[1] for text in texts]
    # a best that comes while one still waits takes its place
    assert [line for line in headlines if line != b"new best"] == [b"started", b"failed", b"resumed", b"finished"]
    assert headlines[1] == b"new best"
    failed, finished = story.form[headlines.index(b"failed")].body, story.form[headlines.index(b"finished")].body
    assert story.picture in failed
    assert (story.folder / "callbacks" / "curves.png").read_bytes() in finished
    assert story.picture.startswith(b"\x89PNG")
    assert b"no answer from https://***@store/x, key ***" in failed


def test_servers_that_are_gone_cost_the_end_so_long_and_no_longer(story):
    outcomes = re.findall(r"(\S+) \(\S+\): delivered (\d+ of \d+) messages", story.log)
    assert outcomes == [
        ("RemoteMonitor", "4 of 4"),
        ("Notify", outcomes[1][1]),
        ("RemoteMonitor", "4 of 4"),
        ("Notify", outcomes[3][1]),
        ("RemoteMonitor-2", "0 of 4"),
        ("RemoteMonitor-3", "0 of 4"),
        ("Notify-2", outcomes[6][1]),
    ]
    assert outcomes[6][1].startswith("0 of ")
    assert 9 < story.took < 10 + 10 + 15  # both monitors together and then Notify; and the last picture


def test_no_secret_is_in_any_file_nor_in_the_log_nor_shown(story):
    for name, secret in SECRETS.items():
        for path in (path for path in story.folder.rglob("*") if path.is_file()):
            assert secret.encode() not in path.read_bytes(), (name, path)
        lines = [line for line in story.log.split("\n") if secret in line]
        assert not lines, (name, lines)
        for attachment in story.attachments:
            assert secret not in repr(attachment)
    assert "127.0.0.1" not in "\n".join(line for line in story.log.split("\n") if line.startswith("urllib3"))
    assert len(list(story.folder.rglob("*"))) >= 10
