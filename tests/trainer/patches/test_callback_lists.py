"""Lists of callbacks that change while they are gone through."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from yolo_callbacks.trainer.patches.callback_lists import SnapshotList, protect_callback_lists


def test_one_that_removes_itself_costs_no_other_its_turn():
    seen, functions = [], SnapshotList("abc")
    for item in functions:
        seen.append(item)
        functions.remove(item)
    assert seen == ["a", "b", "c"]
    assert functions == []


def test_one_that_is_removed_before_its_turn_is_not_called():
    seen, functions = [], SnapshotList("abc")
    for item in functions:
        seen.append(item)
        if item == "a":
            functions.remove("b")
    assert seen == ["a", "c"]


def test_one_that_is_added_comes_last_and_once():
    seen, functions = [], SnapshotList("ab")
    for item in functions:
        seen.append(item)
        if item == "a":
            functions.insert(0, "new")
    assert seen == ["a", "b", "new"]
    assert list(functions) == ["new", "a", "b"]


def test_what_is_for_one_event_alone_ends_with_it_whatever_happens():
    ended = []
    functions = SnapshotList("ab")
    functions.at_end = lambda: ended.append(1)
    for _ in functions:
        assert list(functions) == ["a", "b"]  # one within the other does not count
    assert ended == [1]
    iterator = iter(functions)
    next(iterator)
    iterator.close()  # as an exception of a callback does
    assert ended == [1, 1]


def test_all_lists_of_a_trainer_are_protected_once():
    trainer, ended = SimpleNamespace(callbacks=defaultdict(list, start=["a"], end=["b"])), []
    protect_callback_lists(trainer, {"end": lambda: ended.append(1)})
    first = trainer.callbacks["end"]
    protect_callback_lists(trainer, {"end": lambda: ended.append(2)})
    assert trainer.callbacks["end"] is first
    assert (trainer.callbacks["start"], trainer.callbacks["end"]) == (["a"], ["b"])
    assert all(isinstance(functions, SnapshotList) for functions in trainer.callbacks.values())
    assert [*trainer.callbacks["start"], *trainer.callbacks["end"]] == ["a", "b"]
    assert ended == [2]


def test_a_list_that_a_user_has_put_there_since_is_protected_too():
    trainer = SimpleNamespace(callbacks=defaultdict(list, end=["a"]))
    protect_callback_lists(trainer, {})
    trainer.callbacks["end"] = list(trainer.callbacks["end"])
    protect_callback_lists(trainer, {"end": lambda: None})
    assert isinstance(trainer.callbacks["end"], SnapshotList)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_comes_out(error):
    ended, functions = [], SnapshotList("ab")
    functions.at_end = lambda: ended.append(1)

    def call():
        for _ in functions:
            raise error

    with pytest.raises(error):
        call()
    assert ended == [1]
