"""Any words on the command line: exit code 0 or 2, and one sentence, never a traceback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.cli.helpers import plain
from tests.fuzz.effort import effort
from tests.fuzz.values import ODD_TEXT
from yolo_callbacks.cli import train as train_module
from yolo_callbacks.cli.main import app

SAFE = st.text(max_size=10).filter(lambda text: not text.startswith("/") and ".." not in text)
TEXTS = ["0", "-1", "1e999", "9" * 5000, "(" * 500, "[" * 500, "[1,2", "{1:2}", "None", "True", "nan", "a=b"]
TEXTS += ["none.yaml", "run", "run/weights/last.pt", "cfg.yaml", "cfg.json", "callbacks.yaml", "results.csv"]
VALUES = st.one_of(st.sampled_from(TEXTS + [text for text in ODD_TEXT if len(text) < 200]), SAFE)
KEYS = [
    "epochs",
    "imgsz",
    "batch",
    "lr0",
    "data",
    "model",
    "cfg",
    "task",
    "mode",
    "device",
    "classes",
    "freeze",
    "save_dir",
]
KEYS += [
    "resume",
    "patience",
    "optimizer",
    "close_mosaic",
    "close-mosaic",
    "name",
    "project",
    "config",
    "epoch",
    "self",
]
WORDS = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), VALUES),
    st.builds("--{}={}".format, st.sampled_from(KEYS), VALUES),
    st.sampled_from([f"--{key}" for key in KEYS]),
    st.sampled_from(
        ["--protect", "--no-protect", "--standin", "--help", "-h", "--", "-", "---", "--details", "--out", "-x"]
    ),
    VALUES,
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that runs a command up to where a training would begin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_module, "_train", lambda *_: 0)
    (tmp_path / "run" / "weights").mkdir(parents=True)
    (tmp_path / "run" / "args.yaml").write_text("epochs: x\nmodel: [1]\n")
    (tmp_path / "run" / "weights" / "last.pt").write_bytes(b"nothing")
    (tmp_path / "cfg.yaml").write_text("- 1\n- {a: b}\n")
    (tmp_path / "cfg.json").write_text("{")
    (tmp_path / "callbacks.yaml").write_text("- CSVLogger\n")
    (tmp_path / "results.csv").write_text("epoch,metrics/mAP50-95(B)\n1,0.1\n2,0.3\n3,0.2\n")

    def invoke(*words):
        answer = CliRunner().invoke(app, list(words))
        assert answer.exception is None or isinstance(answer.exception, SystemExit), repr(answer.exception)
        assert answer.exit_code in (0, 2), answer.output
        assert "Traceback" not in answer.output
        said = plain(answer.output)
        if "Error: " in said and "Usage: " not in said:
            assert len(said.strip().splitlines()) == 1, said
        return answer

    return invoke


@pytest.mark.parametrize("words", [["train", "resume=" + "9" * 5000], ["replay", "9" * 5000], ["replay", "a\nb"]])
def test_what_it_found(words, run):
    assert run(*words).exit_code == 2


def test_train(run):
    @effort(25)
    @given(st.lists(WORDS, max_size=5))
    def check(words):
        run("train", *words)

    check()


def test_replay(run):
    @effort(15)
    @given(st.lists(st.one_of(WORDS, st.just("--patience"), st.just("--config")), max_size=5))
    def check(words):
        run("replay", *words)

    check()


def test_no_such_command(run):
    @effort(8)
    @given(st.lists(VALUES, max_size=3))
    def check(words):
        run(*words)

    check()
