"""What belongs to one run stays with it: copies and pickles have all the rest, and nothing of it."""

import copy
import pickle
import threading

import cloudpickle
import pytest

from yolo_callbacks.support.per_run import PerRun


class Holds(PerRun[threading.Thread]):
    def __init__(self, setting):
        self.setting = setting


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda x: pickle.loads(cloudpickle.dumps(x))])
def test_a_copy_has_the_settings_and_nothing_of_the_run(duplicate):
    original = Holds("high")
    assert original._live is None
    original._live = thread = threading.current_thread()  # which cannot be pickled
    copied = duplicate(original)
    assert vars(copied) == {"setting": "high", "_live": None}
    assert original._live is thread
