from pathlib import PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import NAN, SKIPPED, decisions_of, record
from yolo_callbacks import History, ModelCheckpoint, Plan, UnknownMetricError
from yolo_callbacks.core.lineup import check_metrics, check_together

values = st.lists(st.one_of(st.floats(0, 1), st.just(NAN), st.none()), max_size=40)


def saved(callback, values, role="best", **kwargs):
    return [d for d in decisions_of(callback, values, **kwargs) if d.role == role]


def files_left(decisions):
    """Return the files that are there after all decisions are carried out."""
    files = set()
    for decision in decisions:
        files -= set(decision.drop)
        files.add(decision.file)
    return files


@pytest.mark.parametrize(
    ("series", "settings", "epochs"),
    [
        ([0.1, 0.2, 0.2, 0.1, 0.3], {}, [1, 2, 5]),  # a tie keeps the earlier one
        ([0.0, 0.0, 0.1], {}, [1, 3]),
        ([NAN, SKIPPED, 0.1, NAN], {}, [3]),
        ([0.1, 0.2, 0.1], {"save_best_only": False, "filepath": "{epoch}"}, [1, 2, 3]),
        ([0.1, SKIPPED, 0.1], {"save_top_k": -1}, [1, 3]),
        ([0.1, 0.2], {"save_top_k": 0, "save_last": True}, []),
        ([0.5, 0.4, 0.3, 0.45, 0.1], {"save_top_k": 2}, [1, 2, 4]),
    ],
)
def test_which_epochs_are_kept(series, settings, epochs):
    assert [d.epoch for d in saved(ModelCheckpoint(**settings), series)] == epochs


@given(values, st.integers(1, 5))
def test_the_files_left_are_the_best_k(series, k):
    decisions = saved(ModelCheckpoint("{epoch}", save_top_k=k), series)
    real = [(v, -e) for e, v in enumerate(series, 1) if v is not None and v == v]
    expected = {f"weights/{-negative}.pt" for _, negative in sorted(real, reverse=True)[:k]}
    assert files_left(decisions) == expected


def test_the_old_one_is_dropped_with_the_new_one():
    decisions = saved(ModelCheckpoint("{epoch}-{monitor:.1f}", save_top_k=1), [0.1, 0.2])
    assert [d.drop for d in decisions] == [(), ("weights/1-0.1.pt",)]
    assert [d.drop for d in saved(ModelCheckpoint(), [0.1, 0.2])] == [(), ()]  # one name: replaced, not dropped


def test_a_tie_is_not_called_the_best_so_far():
    messages = [d.message for d in saved(ModelCheckpoint("{epoch}", save_top_k=3), [0.1, 0.1, 0.5])]
    assert ["best so far" in text for text in messages] == [True, False, True]
    assert "number 2" in messages[1]


def test_a_score_of_0_is_kept_and_not_called_the_best():
    kept = saved(ModelCheckpoint(), [0.0, 0.0, 0.5])
    assert [d.message for d in kept] == [
        "fitness is still 0 -> weights/best-fitness.pt",
        "fitness 0.5 is the best so far -> weights/best-fitness.pt",
    ]
    loss = saved(ModelCheckpoint(monitor="val_loss"), [0.0], key="val/box_loss")
    assert loss[0].message == "val_loss 0 is the best so far -> weights/best-val_loss.pt"


def test_default_names():
    assert saved(ModelCheckpoint(), [0.1])[0].file == "weights/best-fitness.pt"
    assert saved(ModelCheckpoint(monitor="mAP50-95(B)", save_top_k=3), [0.25], key="metrics/mAP50-95(B)")[0].file == (
        "weights/mAP50-95-B-0001-0.25000.pt"
    )


def test_every_n_epochs_and_the_latest():
    decisions = decisions_of(ModelCheckpoint(every_n_epochs=2, save_last=True), [0.5, SKIPPED, 0.1, 0.1])
    assert [d.file for d in decisions if d.role == "periodic"] == ["weights/epoch-0002.pt", "weights/epoch-0004.pt"]
    assert [d.epoch for d in decisions if d.role == "latest"] == [1, 2, 3, 4]


def test_every_n_minutes_goes_by_the_time_of_training():
    callback = ModelCheckpoint(every_n_minutes=1)
    history, epochs = History(Plan()), []
    for epoch, seconds in enumerate([30, 61, 90, 119, 130, 400, 401], 1):
        history.append(record(epoch, 0.1, elapsed=seconds))
        epochs += [d.epoch for d in callback.decide(history) if d.role == "periodic"]
    assert epochs == [2, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"filepath": "{epch}"}, ValueError, "unknown key '{epch}' (did you mean 'epoch'?)"),
        ({"filepath": "x", "save_top_k": 3}, ValueError, "must contain '{epoch}'"),
        ({"filepath": "x", "save_best_only": False}, ValueError, "must contain '{epoch}'"),
        ({"filepath": "a", "filename": "b"}, ValueError, "mean the same: pass only one"),
        ({"filepath": "best.pt"}, ValueError, "is a file that Ultralytics itself writes"),
        ({"filepath": "../x"}, ValueError, "leaves the run directory"),
        ({"save_top_k": -2}, ValueError, "save_top_k=-2 must be >= -1"),
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs=0 must be >= 1"),
        ({"every_n_minutes": 0}, ValueError, "every_n_minutes=0 must be a finite number > 0"),
        ({"save_last": 1}, TypeError, "save_last=1 must be True or False"),
        ({"export": "onxx"}, ValueError, "export='onxx' is not one of"),
        ({"export": "onxx"}, ValueError, "did you mean 'onnx'?"),
        ({"export": 5}, TypeError, "export=5 must be a format"),
        ({"export": "onnx", "save_top_k": 0}, ValueError, "save_top_k=0 keeps none"),
        ({"monitor": "top_1"}, ValueError, "did you mean 'top1'?"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        ModelCheckpoint(**arguments)
    assert message in str(caught.value)


def test_a_key_that_this_run_has_not_fails_before_it_starts():
    callback = ModelCheckpoint("{epoch}-{top1:.2f}", save_top_k=2)
    with pytest.raises(UnknownMetricError, match="'top1' is not a metric of this run"):
        check_metrics({"ModelCheckpoint": callback}, {"fitness": 0.0, "metrics/mAP50(B)": 0.0}, losses_known=True)


def test_filename_is_lightnings_word_for_filepath():
    assert saved(ModelCheckpoint(filename="{epoch:03d}"), [0.1])[0].file == "weights/001.pt"


@pytest.mark.parametrize(
    ("template", "folder"),
    [
        ("C:\\ck\\best-{epoch}", "C:/ck"),
        ("/ck/best-{epoch}", "/ck"),
        ("best-{epoch}", "weights"),
        ("a\\b", "weights/a"),
    ],
)
def test_everything_is_kept_in_the_folder_of_the_template(template, folder):
    checkpoint = ModelCheckpoint(template, every_n_epochs=1, save_last=True, save_on_exception=True)
    files = [*checkpoint.outputs(), *(decision.file for decision in decisions_of(checkpoint, [0.5]))]
    assert len(files) == 7
    assert {file.rpartition("/")[0] for file in files} == {folder}
    for file in files:  # as Windows puts it beside a run directory
        assert PureWindowsPath("D:\\runs\\train", file).name == file.rpartition("/")[2]
    if template.startswith("C:"):
        assert {str(PureWindowsPath("D:\\runs\\train", file).parent) for file in files} == {"C:\\ck"}


def test_names_that_differ_in_case_alone_are_one_file_on_windows_and_macos():
    with pytest.raises(ValueError, match=r"would both write weights/Mine\.pt"):
        check_together([ModelCheckpoint("mine"), ModelCheckpoint("Mine", monitor="val_loss")])
