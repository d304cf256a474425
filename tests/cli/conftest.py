import pytest

from tests import programs
from tests.cli.helpers import environment


@pytest.fixture
def command(tmp_path):
    """Return a function that runs yolo-cb in a folder of its own, offline."""

    def run(*words):
        return programs.run(["-m", "yolo_callbacks", *words], cwd=tmp_path, env=environment(tmp_path))

    return run
