import pytest
import torch

from yolo_callbacks.run_dir.training_states import TrainingStates, UnreadableStateError


@pytest.fixture
def ranks(tmp_path):
    return [TrainingStates(tmp_path, rank, 2) for rank in (0, 1)]


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "weights" / "states").iterdir())


def test_what_was_written_is_read(tmp_path):
    states = TrainingStates(tmp_path, 0, 1)
    assert states.newest() is None
    states.write(3, {"state": {"weights": torch.arange(3.0), "rate": 0.1, "seen": [1, None, (2, "x")]}}, alone=True)
    assert states.newest() == 3
    content = states.read(3)
    assert torch.equal(content["state"].pop("weights"), torch.arange(3.0))
    assert content == {"format": 1, "epoch": 3, "state": {"rate": 0.1, "seen": [1, None, (2, "x")]}}


def test_the_older_one_goes_when_the_newer_one_is_there(tmp_path):
    states = TrainingStates(tmp_path, 0, 1)
    for epoch in (1, 2, 3):
        states.write(epoch, {}, alone=epoch == 1)
        assert names(tmp_path) == [f"epoch{epoch}-rank0of1.state"]


def test_one_that_does_not_read_back_replaces_nothing(tmp_path, monkeypatch):
    states = TrainingStates(tmp_path, 0, 1)
    states.write(1, {}, alone=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda content, file: file.write(b"PK, but no more"))
        with pytest.raises(OSError, match="does not read back"):
            states.write(2, {}, alone=False)
    assert (states.newest(), names(tmp_path)) == (1, ["epoch1-rank0of1.state"])


def test_a_full_disk_is_an_error_of_the_disk_whatever_torch_makes_of_it(tmp_path, monkeypatch):
    def fail(content, file):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 576 vs 534")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        TrainingStates(tmp_path, 0, 1).write(1, {}, alone=True)
    assert names(tmp_path) == []


def test_the_newest_epoch_is_one_that_every_rank_has_saved(tmp_path, ranks):
    first, second = ranks
    first.write(1, {"rank": 0}, alone=True)
    assert first.newest() is None
    second.write(1, {"rank": 1}, alone=True)
    first.write(2, {"rank": 0}, alone=False)
    assert second.newest() == 1
    assert names(tmp_path) == ["epoch1-rank0of2.state", "epoch1-rank1of2.state", "epoch2-rank0of2.state"]
    assert [states.read(1)["rank"] for states in ranks] == [0, 1]
    second.write(2, {"rank": 1}, alone=False)
    first.write(3, {"rank": 0}, alone=False)
    assert second.newest() == 2
    assert names(tmp_path) == ["epoch2-rank0of2.state", "epoch2-rank1of2.state", "epoch3-rank0of2.state"]


def test_what_an_earlier_course_of_the_run_has_saved_goes_with_the_first_new_one(tmp_path, ranks):
    for states in ranks:
        states.write(5, {}, alone=True)
    for states in ranks:
        states.write(3, {}, alone=True)
    assert (ranks[0].newest(), len(names(tmp_path))) == (3, 2)


def test_one_of_a_newer_version_is_refused_with_a_sentence(tmp_path):
    states = TrainingStates(tmp_path, 0, 1)
    states.write(1, {"format": 7}, alone=True)
    with pytest.raises(UnreadableStateError, match="has format 7, this version reads up to 1: update yolo-callbacks"):
        states.read(1)


@pytest.mark.parametrize("content", [{}, [1], {"format": "x"}, print])
def test_what_is_no_state_is_refused_with_a_sentence(content, tmp_path):
    states = TrainingStates(tmp_path, 0, 1)
    states.folder.mkdir(parents=True)
    torch.save(content, states.folder / "epoch1-rank0of1.state")
    with pytest.raises(UnreadableStateError, match=r"epoch1-rank0of1.state does not load \(\w+\)"):
        states.read(1)


def test_a_damaged_one_of_any_rank_is_noticed(ranks):
    for states in ranks:
        states.write(1, {"x": torch.zeros(1000)}, alone=True)
    ranks[0].verify_others(1)
    path = ranks[0].folder / "epoch1-rank1of2.state"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnreadableStateError, match=r"epoch1-rank1of2\.state is damaged"):
        ranks[0].verify_others(1)
    with pytest.raises(UnreadableStateError, match="rank 1 has saved none"):
        ranks[1].read(2)


def test_the_other_ranks_forget_theirs_when_rank_0_has(tmp_path, ranks):
    for states in ranks:
        states.write(1, {}, alone=True)
    ranks[1].forget_if_ended()
    assert len(names(tmp_path)) == 2
    ranks[0].remove_all()
    ranks[1].write(1, {}, alone=False)
    ranks[1].forget_if_ended()
    assert not ranks[1].folder.exists()


def test_a_folder_that_rank_0_removes_in_the_same_instant_is_no_error(tmp_path, monkeypatch):
    states = TrainingStates(tmp_path, 1, 2)

    def vanishes(folder, pattern):
        raise FileNotFoundError(folder)

    monkeypatch.setattr(type(tmp_path), "glob", vanishes)
    states.forget_if_ended()
    assert states.newest() is None
