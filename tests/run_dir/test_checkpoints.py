"""The checkpoints that a run keeps: written whole or not at all, and listed as they are."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from yolo_callbacks import SaveCheckpoint
from yolo_callbacks.run_dir.checkpoints import CheckpointStore
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background


def store(folder, known=(), changed=lambda: None, data=None):
    """Return the store of a run whose trainer has just saved `data`, or nothing that can be had."""

    def epoch_bytes():
        if isinstance(data, Exception):
            raise data
        return data

    run = SimpleNamespace(
        save_dir=folder,
        epoch=3,
        last_checkpoint=folder / "last.pt",
        best_checkpoint=folder / "best.pt",
        checkpointing=SimpleNamespace(epoch_bytes=epoch_bytes, current_bytes=lambda finished: data),
    )
    return CheckpointStore(run, Background("x"), known, changed)


def content(folder, **fields):
    """Return the bytes of a checkpoint."""
    torch.save({"epoch": 1, **fields}, folder / "made.pt")
    return (folder / "made.pt").read_bytes()


def kept(epoch, file, **fields):
    return SaveCheckpoint("", epoch, file=file, **fields)


def test_what_is_kept_is_listed_with_its_fingerprint(tmp_path):
    data = content(tmp_path)
    listed = store(tmp_path, data=data)
    decision = kept(2, "weights/a.pt", monitor="fitness", value=0.5)
    listed.keep(decision)
    listed.wait()
    path = tmp_path / "weights" / "a.pt"
    assert path.read_bytes() == data
    size, digest = storage.fingerprint(path)
    assert listed.stored == [
        {
            "file": "weights/a.pt",
            "role": "best",
            "epoch": 2,
            "monitor": "fitness",
            "value": 0.5,
            "bytes": size,
            "sha256": digest,
        }
    ]
    assert listed.has(decision)
    assert not listed.has(kept(3, "weights/a.pt"))
    path.unlink()
    assert not listed.has(decision)


def test_what_it_replaces_goes_when_it_is_there(tmp_path):
    listed = store(tmp_path, data=content(tmp_path))
    listed.keep(kept(1, "1.pt"))
    listed.keep(kept(2, "2.pt", drop=("1.pt",)))
    listed.wait()
    assert [item["file"] for item in listed.stored] == ["2.pt"]
    assert not (tmp_path / "1.pt").exists()


def test_what_does_not_read_back_takes_no_ones_place(tmp_path, said):
    listed = store(tmp_path, data=content(tmp_path))
    listed.keep(kept(1, "a.pt"))
    listed.wait()
    whole = (tmp_path / "a.pt").read_bytes()
    damaged = store(tmp_path, listed.stored, data=whole[:-40])
    damaged.keep(kept(2, "a.pt", drop=("other.pt",)))
    damaged.wait()
    assert (tmp_path / "a.pt").read_bytes() == whole
    assert damaged.stored == listed.stored
    assert "cannot be read back" in said.warnings[0]


def test_a_disk_that_fails_is_told_and_a_mistake_of_ours_raised(tmp_path, said):
    listed = store(tmp_path, data=OSError(28, "No space left on device"))
    listed.keep(kept(1, "a.pt"))
    listed.wait()
    assert "No space left on device" in said.warnings[0]
    assert listed.stored == []
    broken = store(tmp_path, data="no bytes")
    broken.keep(kept(1, "a.pt"))
    with pytest.raises(TypeError):
        broken.wait()
    broken.wait()  # once


def test_weights_as_they_are_are_kept_at_once(tmp_path):
    assert not store(tmp_path).keep_now("a.pt", "preempted", 2)
    listed = store(tmp_path, data=content(tmp_path))
    assert listed.keep_now("a.pt", "preempted", 2)
    (item,) = listed.stored
    assert (item["role"], item["epoch"]) == ("preempted", 2)


def test_what_is_removed_is_off_the_list(tmp_path):
    changes = []
    listed = store(tmp_path, changed=lambda: changes.append(1), data=content(tmp_path))
    listed.keep(kept(1, "a.pt"))
    listed.wait()
    listed.remove("a.pt")
    listed.remove("a.pt")
    assert (listed.stored, len(changes)) == ([], 2)
    assert not (tmp_path / "a.pt").exists()


def test_a_resumed_run_lists_what_its_decisions_have_left(tmp_path):
    """`run.json` may be behind by a moment."""
    for epoch in (1, 2, 3):
        torch.save({"epoch": epoch - 1}, tmp_path / f"{epoch}.pt")
    torch.save({"epoch": 6}, tmp_path / "other.pt")
    listed = store(tmp_path)
    listed.adopt(
        [kept(1, "1.pt"), kept(2, "2.pt", drop=("1.pt",)), kept(3, "3.pt"), kept(4, "gone.pt"), kept(5, "other.pt")]
    )
    assert [item["file"] for item in listed.stored] == ["2.pt", "3.pt"]


def test_what_an_interrupted_stripping_has_destroyed_is_put_back(tmp_path, said):
    data = content(tmp_path)
    for name in ("last.pt", "best.pt"):
        (tmp_path / name).write_bytes(data)
    listed = store(tmp_path)
    (tmp_path / "weights").mkdir()
    assert listed.keep_originals()
    (tmp_path / "last.pt").write_bytes(data[:-40])
    listed.drop_originals()
    copies = list((tmp_path / "weights").iterdir())
    assert len(copies) == 1  # that of the one that is whole has gone
    listed.mend_originals()
    assert (tmp_path / "last.pt").read_bytes() == data
    assert "last.pt was damaged while it was stripped" in said.lines[-1][1]
    listed.drop_originals()
    assert not list((tmp_path / "weights").iterdir())


def test_a_checkpoint_that_is_gone_cannot_be_restored(tmp_path, said):
    assert store(tmp_path).finalize(kept(2, "a.pt", role="restore")) is None
    assert "does not exist, so the model keeps the weights of best.pt" in said.warnings[0]


def test_a_disk_that_is_full_when_all_is_trained_leaves_what_is_restored(tmp_path, said, monkeypatch):
    """Torch writes the file itself, and what it raises is no OSError."""
    data = content(tmp_path, model=None, ema=torch.nn.Linear(1, 1), optimizer={}, train_args={})
    listed, decision = store(tmp_path, data=data), kept(2, "a.pt", role="restore")
    listed.keep(decision)
    listed.wait()

    def refuse(*args, **kwargs):
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0\nand where")

    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr("ultralytics.utils.torch_utils.torch.save", refuse)
    assert listed.finalize(decision) == tmp_path / "a.pt"
    assert (tmp_path / "a.pt").read_bytes() == data
    (text,) = said.warnings
    assert "a.pt cannot be written, it keeps its optimizer; training continues: the stripped checkpoint cannot" in text
    assert text.endswith("unexpected pos 64 vs 0")


def test_an_old_best_that_another_program_holds_open_stays_on_the_list(tmp_path, monkeypatch):
    for name in ("last.pt", "1.pt"):
        torch.save({"epoch": 1}, tmp_path / name)
    listed = store(tmp_path, [{"file": "1.pt", "epoch": 1}], lambda: None)
    newer = SaveCheckpoint("", 2, file="2.pt", drop=("1.pt",))

    def refuse(path, missing_ok=False):
        raise PermissionError(13, "The process cannot access the file", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        listed.keep(newer, tmp_path / "last.pt")
        listed.wait()
    assert [item["file"] for item in listed.stored] == ["1.pt", "2.pt"]


def test_what_is_listed_is_not_looked_for_at_every_save(tmp_path, monkeypatch):
    known = [{"file": f"{number}.pt", "epoch": number} for number in range(1, 4)]
    (tmp_path / "2.pt").touch()
    changes = []
    listed = store(tmp_path, known, lambda: changes.append(listed.stored))
    listed.forget_missing()
    assert [item["file"] for item in listed.stored] == ["2.pt"]
    torch.save({"epoch": 1}, tmp_path / "last.pt")
    looked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: looked.append(path.name) or exists(path))
    listed.keep(SaveCheckpoint("", 5, file="5.pt"), tmp_path / "last.pt")
    listed.wait()
    assert [item["file"] for item in changes[-1]] == ["2.pt", "5.pt"]
    assert "2.pt" not in looked
