import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from yolo_callbacks.support import storage


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), storage.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_copy_is_a_copy_of_its_own_with_its_fingerprint(tmp_path):
    source, target = tmp_path / "last.pt", tmp_path / "deep" / "er" / "best.pt"
    source.write_bytes(b"x" * 3_000_000)
    stored = storage.copy(source, target)
    assert (stored.size, stored.sha256) == (3_000_000, hashlib.sha256(b"x" * 3_000_000).hexdigest())
    assert target.stat().st_nlink == 1
    source.write_bytes(b"overwritten in place")
    assert target.read_bytes() == b"x" * 3_000_000


def test_an_edit_is_part_of_what_is_stored(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"full")
    stored = storage.copy(source, target, lambda path: path.write_bytes(b"slim"))
    assert target.read_bytes() == b"slim"
    assert stored.sha256 == hashlib.sha256(b"slim").hexdigest()
    assert source.read_bytes() == b"full"


def test_a_source_that_changes_while_it_is_copied_is_no_copy(tmp_path, monkeypatch):
    source, target = tmp_path / "last.pt", tmp_path / "best.pt"
    source.write_bytes(b"whole")
    target.write_bytes(b"old")

    copyfile = shutil.copyfile

    def racing(*paths):
        copyfile(*paths)
        source.write_bytes(b"stripped in place")

    monkeypatch.setattr(shutil, "copyfile", racing)
    with pytest.raises(OSError, match="changed while it was copied"):
        storage.copy(source, target)
    assert target.read_bytes() == b"old"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".best.pt.abc123.tmp").write_bytes(b"half")
    (tmp_path / "mine.tmp").write_bytes(b"")
    storage.remove_leftovers(tmp_path)
    storage.remove_leftovers(tmp_path / "not there")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tmp"]


def test_new_files_have_ordinary_permissions(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_text("")
    storage.write_text(ours, "")
    assert ours.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_new_files_have_ordinary_permissions_when_the_program_changes_them_late(tmp_path, mask):
    code = (
        "import os, pathlib, sys; from yolo_callbacks.support import storage; os.umask(int(sys.argv[1])); "
        "storage.write_text(pathlib.Path('ours'), ''); pathlib.Path('plain').write_text(''); "
        "assert os.stat('ours').st_mode == os.stat('plain').st_mode"
    )
    subprocess.run([sys.executable, "-c", code, str(mask)], cwd=tmp_path, check=True)


def test_importing_it_never_changes_the_permissions_of_what_others_write(monkeypatch):
    def umask(mask):
        raise AssertionError("for a moment, other threads write files that anybody may change")

    monkeypatch.setattr(os, "umask", umask)
    specification = importlib.util.spec_from_file_location("storage_again", storage.__file__)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "storage_again", module)
    specification.loader.exec_module(module)


class HeldOpen:
    """Windows, where a file cannot be replaced while a reader has it open: refuses so many times."""

    def __init__(self, monkeypatch, times):
        self.times, self.replace = times, os.replace
        monkeypatch.setattr(os, "replace", self)
        monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)

    def __call__(self, source, target):
        if self.times > 0:
            self.times -= 1
            error = PermissionError(13, "The process cannot access the file", str(target))
            error.winerror = 32
            raise error
        self.replace(source, target)


WRITES = [
    storage.write_text,
    lambda path, text: storage.replace_unsynced(path, text.encode()),
    lambda path, text: storage.write_bytes(text.encode(), path),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_reader_that_holds_a_file_for_a_moment_does_no_harm(tmp_path, monkeypatch, write):
    path = tmp_path / "epochs.csv"
    path.write_text("old")
    HeldOpen(monkeypatch, times=3)
    write(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("write", WRITES)
def test_a_reader_that_holds_a_file_for_good_leaves_the_old_one(tmp_path, monkeypatch, write):
    path = tmp_path / "epochs.csv"
    path.write_text("old")
    HeldOpen(monkeypatch, times=1000)
    with pytest.raises(PermissionError):
        write(path, "new")
    assert os.listdir(tmp_path) == ["epochs.csv"]
    assert path.read_text() == "old"


def test_a_folder_that_must_not_be_written_is_not_waited_for(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(PermissionError):
        storage.write_text(tmp_path / "x", "")


def test_a_leftover_that_another_program_holds_open_does_not_end_the_training(tmp_path, monkeypatch):
    (tmp_path / ".best.pt.abc123.tmp").write_bytes(b"half")

    def refuse(path, missing_ok=False):
        raise PermissionError(13, "The process cannot access the file", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    storage.remove_leftovers(tmp_path)


def test_set_aside_never_overwrites(tmp_path):
    journal = tmp_path / "journal.jsonl"
    for content in ("first", "second"):
        journal.write_text(content)
        storage.set_aside(journal)
    assert (tmp_path / "journal.1.jsonl").read_text() == "first"
    assert (tmp_path / "journal.2.jsonl").read_text() == "second"


def test_append_leaves_the_file_as_it_was_when_the_disk_fails(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    storage.append_lines(path, "one\n")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            storage.append_lines(path, "two\n")
    assert path.read_text() == "one\n"
    storage.append_lines(path, "two\n")
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_nothing_of_lines_that_the_disk_has_refused_is_written_when_it_has_room_again(tmp_path, monkeypatch):
    import resource

    path, truncate = tmp_path / "journal.jsonl", os.truncate
    storage.append_lines(path, "one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def make_room(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        truncate(*args)

    monkeypatch.setattr(os, "truncate", make_room)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
    with pytest.raises(OSError, match="too large"):
        storage.append_lines(path, "two\n")
    assert path.read_text() == "one\n"


@pytest.mark.parametrize("write", [storage.write_text, lambda p, t: storage.replace_unsynced(p, t.encode())])
def test_a_reader_never_sees_half_a_file(tmp_path, write):
    path, done, seen = tmp_path / "view.json", threading.Event(), []
    write(path, json.dumps(["start"] * 1000))

    def read():
        while not done.is_set():
            seen.append(json.loads(path.read_text()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        write(path, json.dumps([number] * (1000 + 37 * number)))
    done.set()
    reader.join()
    assert len(seen) > 5


WRITER = """
import sys, pathlib
from yolo_callbacks.support import storage
path = pathlib.Path(sys.argv[1])
number = 0
print("ready", flush=True)
while True:
    number += 1
    storage.write_bytes(bytes([number % 256]) * 2_000_000, path)
"""


@pytest.mark.parametrize("delay", [0.011, 0.023, 0.037, 0.059, 0.083])
def test_a_killed_writer_leaves_a_whole_file(tmp_path, delay):
    path = tmp_path / "best.pt"
    path.write_bytes(b"\x00" * 2_000_000)
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    data = path.read_bytes()
    assert len(data) == 2_000_000
    assert len(set(data)) == 1


def test_half_of_a_character_pair_is_written_as_json_escapes_it(tmp_path):
    """The path of a file whose name is not UTF-8 has some, and it stands in run.json."""
    storage.write_json(tmp_path / "run.json", {"data": "/data/caf\udce9"})
    storage.append_lines(tmp_path / "lines.jsonl", json.dumps("caf\udce9", ensure_ascii=False) + "\n")
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == {"data": "/data/caf\udce9"}
    assert json.loads((tmp_path / "lines.jsonl").read_text(encoding="utf-8")) == "caf\udce9"
