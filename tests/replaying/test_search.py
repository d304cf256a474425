import os
from pathlib import Path

import pytest

from tests.replaying.logs import write_csv
from yolo_callbacks.replaying.search import find_logs


@pytest.fixture
def tree(tmp_path):
    for name in ("detect/train", "detect/train2", "detect/train10", "segment/train"):
        write_csv(tmp_path / "runs" / name, [0.5])
    (tmp_path / "runs" / "detect" / "train" / "weights").mkdir()
    (tmp_path / "runs" / "detect" / "empty").mkdir()
    journal = tmp_path / "runs" / "detect" / "train2" / "callbacks" / "journal.jsonl"
    journal.parent.mkdir()
    journal.touch()
    return tmp_path / "runs"


def names(paths):
    return [log.name for log in find_logs(paths)[0]]


def test_a_tree_in_the_order_in_which_people_count(tree):
    assert names(tree) == ["detect/train", "detect/train2", "detect/train10", "segment/train"]
    assert names(str(tree / "detect")) == ["train", "train2", "train10"]


def test_a_run_directory(tree):
    (log,), _ = find_logs(tree / "detect" / "train2")
    assert (log.name, log.folder.name) == ("train2", "train2")
    assert log.journal is not None


def test_a_file_is_meant_by_itself(tree):
    (log,), _ = find_logs(tree / "detect" / "train2" / "results.csv")
    assert (log.name, log.journal) == ("train2", None)
    (log,), _ = find_logs(tree / "detect" / "train2" / "callbacks" / "journal.jsonl")
    assert (log.name, log.results) == ("train2", None)


def test_globs(tree):
    assert names(str(tree / "*" / "train*")) == ["detect/train", "detect/train2", "detect/train10", "segment/train"]
    assert names(str(tree / "**" / "results.csv")) == names(tree)


def test_a_name_with_a_bracket_is_a_name(tmp_path):
    write_csv(tmp_path / "run[1]", [0.5])
    assert names(str(tmp_path / "run[1]")) == ["run[1]"]


def test_each_run_once(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert names(["runs", tree, "runs/detect/train", Path("runs/./detect/train")]) == names(tree)


def test_several_files_of_a_folder_have_the_files_names(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("epoch\n")
    assert names([tmp_path / "a.csv", tmp_path / "b.csv"]) == ["a.csv", "b.csv"]


def test_what_means_no_run_is_named(tree):
    given = [str(tree / "nope"), str(tree / "x*"), str(tree / "detect" / "empty"), str(tree)]
    found, missing = find_logs(given)
    assert len(found) == 4
    assert [item.reason for item in missing] == ["does not exist", "matches no run", "contains no results.csv"]
    assert [item.path for item in missing] == given[:3]


def test_nothing():
    assert find_logs([]) == ([], [])


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_a_link_is_not_followed_twice(tree):
    (tree / "detect" / "loop").symlink_to(tree, target_is_directory=True)
    assert len(names(tree)) == 4
