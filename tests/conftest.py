"""What all tests share: a private Ultralytics configuration, and coco8 from wherever it can be had."""

import gc
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml

# Nothing may stay behind: whatever a training loads has its settings, caches and temporary files in a private folder.
# pytest's own folders, which outlive a failure, and the private ones of its workers lie beside it.
_TEMPORARY = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
_PRIVATE = Path(tempfile.mkdtemp(prefix="ycb-tests-", dir=_TEMPORARY))
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the first process's home, and what is cached in it
    os.environ["HOME"] = str(_PRIVATE / "home")
    (_PRIVATE / "home").mkdir()
    for _name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MPLCONFIGDIR"):
        os.environ.pop(_name, None)
os.environ["TMPDIR"] = tempfile.tempdir = str(_PRIVATE)
os.environ["YOLO_CONFIG_DIR"] = str(_PRIVATE / "config")
os.environ["YOLO_AUTOINSTALL"] = "false"  # keeps Ultralytics from running pip
import ultralytics.utils  # noqa: E402

# By default they lie in, and beside, the Git repository that Ultralytics is installed in: the environment's.
for _name in ("datasets_dir", "weights_dir", "runs_dir"):
    ultralytics.settings.update({_name: str(_PRIVATE / _name.removesuffix("_dir"))})
    setattr(ultralytics.utils, _name.upper(), _PRIVATE / _name.removesuffix("_dir"))
from yolo_callbacks.support.log import LOGGER  # noqa: E402

ultralytics.settings.update({"mlflow": False})  # on by default once it is installed, and it trains in the test of it

COCO8_VARIABLE = "YOLO_CB_COCO8"


def _find_coco8() -> Path:
    """Return the folder of coco8: the one that is named, else what Ultralytics downloads, else the stand-in."""
    named = os.environ.get(COCO8_VARIABLE)
    if named:
        return Path(named)
    from yolo_callbacks.cli.sources import find_data

    file, facts, _ = find_data("coco8.yaml", "detect", standin=True)
    return Path(file).parent if facts else _PRIVATE / "datasets" / "coco8"


def pytest_configure(config):
    config.addinivalue_line("markers", "coco8: trains on coco8, the real one or its stand-in")


_LONGEST_FIRST = ("distributed", "e2e", "exports", "cli", "tests")


def pytest_collection_modifyitems(items):
    """Let long files begin first, so that no worker waits for another one's at the end."""
    folders = {name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: folders.get(item.path.parent.name, len(folders)))
    for item in items:
        if "coco8" in getattr(item, "fixturenames", ()):
            item.add_marker("coco8")


def pytest_collection_finish():
    """Take from every training what it proves nothing by: a fifth of its time."""
    from ultralytics.utils import torch_utils

    torch_utils.get_flops = lambda *_, **__: 0.0  # runs the model, twice a training, for a word in the log
    gc.collect()
    gc.freeze()  # Ultralytics collects garbage in every training, and nothing that is here by now ever is some


def pytest_report_header():
    named = os.environ.get(COCO8_VARIABLE)
    return f"coco8: {named or 'downloaded by Ultralytics, or a generated stand-in where that fails'}"


def pytest_unconfigure(config):
    shutil.rmtree(_PRIVATE, ignore_errors=True)


class Said:
    """What was logged in a test so far. Called with a text: all messages, also of other libraries, that hold it."""

    def __init__(self, caplog):
        self._caplog = caplog

    def __call__(self, text):
        return [item.getMessage() for item in self._caplog.records if text in item.getMessage()]

    @property
    def lines(self):
        """What this package said, as (level, text); Ultralytics' handler has put a prefix of its own before some."""
        ours = [item for item in self._caplog.records if item.name == LOGGER.name]
        return [(i.levelname, re.sub(r"^(WARNING|ERROR)( \W+)? ", "", i.getMessage())) for i in ours]

    @property
    def warnings(self):
        return [text for level, text in self.lines if level == "WARNING"]


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)
    theirs = logging.getLogger("ultralytics")  # tells its parents nothing, and not every pytest listens to it
    unheard = caplog.handler not in theirs.handlers
    if unheard:
        theirs.addHandler(caplog.handler)
    yield Said(caplog)
    if unheard:
        theirs.removeHandler(caplog.handler)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """The data set YAML of four and four generated pictures of 64 pixels: what most trainings here train on."""
    from yolo_callbacks.datasets import build_shapes

    root = build_shapes(tmp_path_factory.mktemp("data") / "shapes", "detect", train=4, val=4, size=64)
    return (root / "data.yaml").rename(root / "shapes.yaml")  # several data sets in one training are told apart by it


@pytest.fixture(scope="session")
def coco8(tmp_path_factory) -> Path:
    """The data set YAML of a private copy of coco8: Ultralytics writes caches beside the labels."""

    folder = tmp_path_factory.mktemp("data") / "coco8"
    shutil.copytree(_find_coco8(), folder, ignore=shutil.ignore_patterns("*.cache"))
    original = Path(ultralytics.__file__).parent / "cfg" / "datasets" / "coco8.yaml"
    data = yaml.safe_load(original.read_text(encoding="utf-8"))
    data.pop("download")
    file = folder / "coco8-copy.yaml"
    file.write_text(yaml.safe_dump({**data, "path": str(folder)}, sort_keys=False), encoding="utf-8")
    return file
