import subprocess
import sys

import pytest

from tests.cli.helpers import environment


@pytest.fixture
def command(tmp_path):
    """Return a function that runs yolo-cb in a folder of its own, offline."""

    def run(*words, **kwargs):
        return subprocess.run(
            [sys.executable, "-m", "yolo_callbacks", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(tmp_path),
            timeout=300,
            check=False,
            **kwargs,
        )

    return run
