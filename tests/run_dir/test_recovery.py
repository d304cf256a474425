"""Which checkpoint of a run is resumed."""

import shutil

import pytest
import torch

import yolo_callbacks as ycb
from yolo_callbacks.cli.resume import find_run
from yolo_callbacks.run_dir.recovery import NoCheckpointError, find_resumable, run_directory


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    (folder / "results.csv").write_text("epoch,time\n1,2.0\n2,3.0\n")
    return folder


def save(run, name, epochs, *, optimizer=True, weight=0.5):
    module = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(module.weight, weight)
    content = {
        "epoch": epochs - 1,
        "ema": module if optimizer else None,
        "model": None if optimizer else module,
        "optimizer": {"state": {}} if optimizer else None,
        "train_args": {"epochs": 9, "save_dir": str(run)},
    }
    torch.save(content, run / "weights" / name)


def tear(run, name):
    path = run / "weights" / name
    path.write_bytes(path.read_bytes()[:-100])


def test_last_pt_is_taken_where_nothing_is_newer(run):
    for name in ("backup.pt", "latest.pt", "last.pt"):
        save(run, name, 4)
    found = find_resumable(run)
    assert (found.path.name, found.epochs, found.planned_epochs, found.passed_over) == ("last.pt", 4, 9, {})
    assert str(found) == f"{run / 'weights' / 'last.pt'}, after epoch 4 of 9"
    assert find_resumable(run / "weights") == found


def test_one_that_does_not_load_is_passed_over_and_named(run):
    save(run, "last.pt", 5)
    save(run, "backup.pt", 4)
    tear(run, "last.pt")
    found = find_resumable(run)
    assert (found.path.name, found.epochs) == ("backup.pt", 4)
    assert found.passed_over == {"last.pt": "does not load (RuntimeError)"}
    (run / "weights" / "last.pt").write_bytes(b"")
    assert find_resumable(run).path.name == "backup.pt"


def test_the_newer_of_two_is_taken_and_the_other_one_named(run):
    save(run, "last.pt", 4)
    save(run, "backup.pt", 5)
    found = find_resumable(run)
    assert found.path.name == "backup.pt"
    assert found.passed_over == {"last.pt": "is from epoch 4"}


def test_weights_from_the_middle_of_an_epoch_are_newer_than_those_before_it(run):
    save(run, "last.pt", 4)
    save(run, "preempted.pt", 4)
    assert find_resumable(run).path.name == "preempted.pt"
    save(run, "last.pt", 5)
    assert find_resumable(run).path.name == "last.pt"


def test_a_finished_model_is_not_resumed(run):
    save(run, "last.pt", 0, optimizer=False)
    save(run, "backup.pt", 4)
    found = find_resumable(run)
    assert found.path.name == "backup.pt"
    assert "is a finished model" in found.passed_over["last.pt"]


def test_a_run_that_has_ended_is_not_trained_again_from_an_old_checkpoint(run):
    save(run, "last.pt", 0, optimizer=False)
    save(run, "best.pt", 0, optimizer=False)
    save(run, "best-fitness.pt", 2)
    with pytest.raises(NoCheckpointError, match="run is already finished; to train further") as caught:
        find_resumable(run)
    assert caught.value.ended
    assert find_resumable(run / "weights" / "best-fitness.pt").epochs == 2


def test_an_extension_that_was_killed_before_it_began_goes_on(run):
    (run / "callbacks").mkdir()
    (run / "callbacks" / "run.json").write_text('{"status": "finished"}')
    save(run, "last.pt", 0, optimizer=False)
    with pytest.raises(NoCheckpointError, match="already finished"):
        find_resumable(run)
    save(run, "extended.pt", 4)
    assert find_resumable(run).path.name == "extended.pt"


def test_weights_that_are_not_numbers_are_passed_over(run):
    save(run, "last.pt", 5, weight=float("nan"))
    save(run, "backup.pt", 4)
    assert find_resumable(run).passed_over == {"last.pt": "has NaN or infinite weights"}


def test_any_other_checkpoint_is_better_than_none_but_not_what_an_error_left(run):
    save(run, "best-fitness.pt", 2)
    save(run, "epoch-0003.pt", 3)
    save(run, "exception.pt", 8)
    assert find_resumable(run).path.name == "epoch-0003.pt"
    assert find_resumable(run / "weights" / "exception.pt").epochs == 8


def test_nothing_to_resume_says_what_is_wrong_with_each(run):
    save(run, "last.pt", 0)
    (run / "weights" / "backup.pt").write_text("no checkpoint")
    with pytest.raises(
        NoCheckpointError, match=r"last.pt is from the first epoch.*; backup.pt does not load"
    ) as caught:
        find_resumable(run)
    assert not caught.value.untouched
    (run / "results.csv").write_text("epoch,time\n1,2.0\n")
    with pytest.raises(NoCheckpointError) as caught:
        find_resumable(run)
    assert caught.value.untouched


def test_a_run_that_does_not_exist(run):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        ycb.newest_checkpoint(run.parent / "nowhere")


def test_the_choice_is_logged(run, said):
    save(run, "last.pt", 4)
    assert ycb.newest_checkpoint(str(run)) == run / "weights" / "last.pt"
    assert said.lines == [("INFO", f"Newest checkpoint of {run}: {run / 'weights' / 'last.pt'}, after epoch 4 of 9")]


@pytest.fixture(params=["args.yaml", "callbacks/run.json"])
def marked(run, request):
    """Return a run directory that is known to be one by one of its files."""
    (run / request.param).parent.mkdir(exist_ok=True)
    (run / request.param).write_text("{}")
    return run


def in_its_own_run(run, path):
    """Assert that resuming a path goes on in that run, and that nothing says it was moved."""
    for checkpoint in (path, run):
        going_on = find_run(checkpoint)
        assert (going_on.folder, going_on.arguments) == (run, {"resume": True})


def test_weights_that_are_a_link_to_another_disk_belong_to_their_run(marked, tmp_path):
    save(marked, "last.pt", 4)
    other = tmp_path / "other disk" / "deep" / "w1"
    other.parent.mkdir(parents=True)
    shutil.move(marked / "weights", other)
    (marked / "weights").symlink_to(other)
    in_its_own_run(marked, marked / "weights" / "last.pt")
    assert find_resumable(other / "last.pt").folder == marked  # which the checkpoint names itself


def test_a_checkpoint_in_a_folder_of_weights_belongs_to_the_run(marked):
    (marked / "weights" / "best" / "of all").mkdir(parents=True)
    save(marked, "best/of all/3.pt", 3)
    in_its_own_run(marked, marked / "weights" / "best" / "of all" / "3.pt")


def test_a_checkpoint_that_was_kept_elsewhere_belongs_to_the_run_that_saved_it(marked, tmp_path):
    save(marked, "last.pt", 4)
    (tmp_path / "ck").mkdir()
    shutil.copy(marked / "weights" / "last.pt", tmp_path / "ck" / "best-4.pt")
    in_its_own_run(marked, tmp_path / "ck" / "best-4.pt")


def test_a_link_to_a_checkpoint_belongs_to_the_run_of_that(marked, tmp_path, monkeypatch):
    save(marked, "last.pt", 4)
    (tmp_path / "newest.pt").symlink_to(marked / "weights" / "last.pt")
    monkeypatch.chdir(tmp_path)
    assert find_resumable("newest.pt").folder == marked
    monkeypatch.chdir(marked / "weights")
    assert find_resumable("last.pt").folder == marked


def test_a_run_that_was_moved_goes_on_where_it_is(marked, tmp_path):
    save(marked, "last.pt", 4)
    moved = shutil.move(marked, tmp_path / "moved")
    for path in (moved, moved / "weights" / "last.pt"):
        assert find_run(path).arguments == {"resume": True, "save_dir": str(moved)}


def test_a_run_in_a_folder_that_is_called_weights(tmp_path):
    run = tmp_path / "weights" / "run"
    (run / "weights").mkdir(parents=True)
    assert run_directory(run / "weights" / "last.pt") == run
    (run / "args.yaml").touch()
    assert run_directory(run / "weights" / "last.pt") == run
