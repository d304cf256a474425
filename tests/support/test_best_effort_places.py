import pytest

from yolo_callbacks.support.best_effort import BestEffortWrites


@pytest.mark.parametrize(
    ("file", "ours"),
    [
        ("train/results.csv", True),
        ("train", True),
        (b"train/results.csv", True),
        ("./train/weights/../results.csv", True),
        ("train2/results.csv", False),
        ("train.txt", False),
        ("elsewhere", False),
        (7, False),
    ],
)
def test_only_an_error_about_a_file_in_the_folder_is_the_disks(file, ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = OSError(28, "No space left on device", file)
    for folder in (tmp_path / "train", (tmp_path / "train").relative_to(tmp_path)):
        if ours:
            with BestEffortWrites().attempt("x", "it stays", within=folder) as attempt:
                raise error
            assert not attempt.worked
        else:
            with (
                pytest.raises(OSError, match="No space"),
                BestEffortWrites().attempt("x", "it stays", within=folder),
            ):
                raise error
