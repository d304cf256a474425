"""What the tests write lies in a private folder, in processes of their own as well."""

import os
import subprocess
import sys
from pathlib import Path

PLACES = """
import tempfile
from pathlib import Path
from ultralytics.utils import DATASETS_DIR, RUNS_DIR, SETTINGS, USER_CONFIG_DIR, WEIGHTS_DIR
print(*(DATASETS_DIR, RUNS_DIR, WEIGHTS_DIR, USER_CONFIG_DIR, tempfile.gettempdir()), sep="\\n")
"""


def test_all_that_a_training_writes_by_itself_lies_there():
    from ultralytics.utils import DATASETS_DIR, RUNS_DIR, WEIGHTS_DIR

    private = Path(os.environ["TMPDIR"])
    printed = subprocess.run([sys.executable, "-c", PLACES], capture_output=True, text=True, check=True).stdout
    places = [Path(line) for line in printed.splitlines()[-5:]]
    assert places[:3] == [DATASETS_DIR, RUNS_DIR, WEIGHTS_DIR]
    for place in places:
        assert place.is_relative_to(private)
    assert Path.home().name == "home"
