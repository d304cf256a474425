"""All reporters in one run with keys, tokens and passwords from everywhere: none of them is left in a file or a log."""

import base64
import json
import sqlite3
from types import SimpleNamespace

import pytest

from tests.helpers import TINY
from tests.platform_server import SIGNATURE, Platform, train_in_process
from tests.receiver import Receiver

SECRETS = {
    "setting": "ul_" + "c0ffee77" * 5,
    "login": "me-7f3a91",
    "password": "pw-91c4e2d0b7",
    "query": "query-55d0aa17",
    "signing": "signing-2b8e61f0c9",
    "header": "header-6a1f0e44d2",
    "argument": "argument-0d93b7e6a1",
    "topic": "topic-3e0c57b98f",
    "second topic": "topic-b4f00d126c",
    "mlflow token": "mlflow-f19e4c7730",
    "database": "database-8c2d55e0f3",
    "tag": "tag-40be8831fc",
    "variable": "variable-a7d91c0e55",
}
FORMS = {
    **SECRETS,
    "signature": SIGNATURE,
    "basic authentication": base64.b64encode(f"{SECRETS['login']}:{SECRETS['password']}".encode()).decode(),
}

# In a process of its own: the integrations are off wherever pytest is loaded.
PROGRAM = """
import json, logging, os, sys

logging.basicConfig(level=logging.DEBUG)  # what other libraries say as well
from tests.helpers import TINY_MODEL
from ultralytics import YOLO, settings
import yolo_callbacks as ycb

data, project, arguments, server = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
s = json.load(open("config/secrets.json"))  # Ultralytics sends the command line to its Platform
settings.update({"sync": False, "tensorboard": True, "mlflow": True, "wandb": False, "api_key": s["setting"]})

def callbacks():
    return [
        *ycb.default_callbacks(),
        ycb.BackupAndRestore(),
        ycb.PerClassMetrics(),
        ycb.GradientMonitor(),
        ycb.ActivationMonitor(),
        ycb.PlatformLogger(),
        ycb.TensorBoard(histogram_freq=1, predictions_freq=1),
        ycb.MLflow("secrets", tags={"purpose": "test", "api_key": s["tag"]}, timeout=60),
        ycb.RemoteMonitor(),
        ycb.RemoteMonitor(f"http://{server}/hook?key={s['argument']}", {"X-Token": s["header"]}, secret=s["signing"]),
        ycb.Notify(min_interval_minutes=0),
        ycb.Notify(f"form://{server}/{s['second topic']}", min_interval_minutes=0),
    ]

def fail(trainer):
    if trainer.epoch == 1:
        login, variable = f"{s['login']}:{s['password']}@", os.environ["STORE_API_TOKEN"]
        raise RuntimeError(f"{variable} does not open https://{login}store.example.org/images.zip?sig={s['query']}")

model = YOLO(TINY_MODEL, verbose=False)
run = ycb.attach(model, callbacks())
print(repr(callbacks()), run)
model.add_callback("on_train_batch_end", fail)
try:
    model.train(data=data, project=project, name="run", epochs=2, **arguments)
except RuntimeError:
    pass
model = YOLO(ycb.newest_checkpoint(f"{project}/run"))
run = ycb.attach(model, callbacks())
model.train(resume=True)
print(run.decisions, run.stop_message, repr(callbacks()))
"""


@pytest.fixture(scope="module")
def story(shapes, tmp_path_factory):
    folder, platform = tmp_path_factory.mktemp("secrets"), Platform()
    with Receiver() as receiver:
        login = f"{SECRETS['login']}:{SECRETS['password']}@"
        environment = {
            "ULTRALYTICS_API_KEY": "",  # it is in the settings
            "YOLO_CB_REMOTE_URL": f"http://{login}127.0.0.1:{receiver.port}/remote?token={SECRETS['query']}",
            "YOLO_CB_REMOTE_SECRET": SECRETS["signing"],
            "YOLO_CB_NOTIFY_URLS": f"json://127.0.0.1:{receiver.port}/{SECRETS['topic']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}?password={SECRETS['database']}",
            "MLFLOW_TRACKING_TOKEN": SECRETS["mlflow token"],
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "STORE_API_TOKEN": SECRETS["variable"],
        }
        words = [str(shapes), str(folder / "runs"), json.dumps({**TINY, "plots": True})]
        (folder / "config").mkdir()
        (folder / "config" / "secrets.json").write_text(json.dumps(SECRETS))
        done = train_in_process(PROGRAM, [*words, f"127.0.0.1:{receiver.port}"], folder, platform, **environment)
        platform.close()
        assert done.returncode == 0, done.stdout + done.stderr
        yield SimpleNamespace(
            folder=folder, log=done.stdout + done.stderr, platform=platform, requests=list(receiver.requests)
        )


def test_all_reporters_were_there_and_used_their_secrets(story):
    assert story.platform.keys == {f"Bearer {SECRETS['setting']}"}
    paths = {request.path for request in story.requests}
    assert paths >= {f"/remote?token={SECRETS['query']}", f"/hook?key={SECRETS['argument']}"}
    assert any(SECRETS["topic"] in path for path in paths)
    assert any(SECRETS["second topic"] in path for path in paths)
    headers = [request.headers for request in story.requests]
    assert any(FORMS["basic authentication"] in each.get("authorization", "") for each in headers)
    assert any(each.get("x-token") == SECRETS["header"] for each in headers)
    run = story.folder / "runs" / "run"
    assert json.loads((run / "callbacks" / "run.json").read_text())["status"] == "finished"
    assert list(run.glob("events.out.tfevents.*"))
    with sqlite3.connect(story.folder / "mlflow.db") as store:
        (names,) = zip(*store.execute("select key from params"))
        ((tag,),) = store.execute("select value from tags where key = 'error'")
    assert {"RemoteMonitor.headers", "RemoteMonitor-2.url", "Notify.urls", "epochs"} <= set(names)
    assert tag == "RuntimeError: *** does not open https://***@store.example.org/images.zip?***"
    events = [request.json["event"] for request in story.requests if request.path.startswith("/hook")]
    assert events == ["start", "epoch", "failure", "resume", "epoch", "stop"]


@pytest.fixture(scope="module")
def files(story):
    """Which secrets each file holds; a file is read once for all of them."""
    contents = ((path, path.read_bytes()) for path in story.folder.rglob("*") if path.is_file())
    return {
        path.relative_to(story.folder): [kind for kind, form in FORMS.items() if form.encode() in content]
        for path, content in contents
    }


def test_a_search_finds_what_is_there(files):
    """The program is told its secrets in a file, and Ultralytics keeps the key in its settings."""
    told = {path for path in files if path.parts[0] == "config"}
    assert {kind for path in told for kind in files[path]} == set(SECRETS)
    assert len(files) - len(told) > 40


@pytest.mark.parametrize("kind", FORMS)
def test_a_secret_is_in_no_file(kind, files):
    assert [path for path, kinds in files.items() if kind in kinds and path.parts[0] != "config"] == []


@pytest.mark.parametrize("kind", FORMS)
def test_a_secret_is_in_no_line_of_the_log(kind, story):
    assert [line for line in story.log.splitlines() if FORMS[kind] in line] == []


@pytest.mark.parametrize("kind", FORMS)
def test_a_secret_is_told_to_nobody_else(kind, story):
    assert [request.path for request in story.requests if FORMS[kind].encode() in request.body] == []
    assert FORMS[kind] not in json.dumps(story.platform.received)
