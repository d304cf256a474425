"""One metric of each class, read from a table that may be long, or still being written."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pictures.class_table import table
from yolo_callbacks.pictures import class_curves
from yolo_callbacks.pictures.class_curves import read_curves


def test_the_values_that_were_measured(tmp_path):
    path = table(tmp_path, ["a", "b", "ghost"], [1, 2, 5], lambda i, e: None if i == 2 else e / 10 + i / 100)
    curves = read_curves(path)
    assert (curves.metric, curves.names, curves.absent) == ("mAP50-95", ["a", "b"], ["ghost"])
    assert curves.ends == [(1, 1), (2, 2), (5, 5)]  # the epochs in between were not validated
    assert curves.values == pytest.approx(np.array([[0.1, 0.2, 0.5], [0.11, 0.21, 0.51]]))
    assert curves.newest.tolist() == [0.5, 0.51]


def test_many_epochs_are_averaged_to_what_can_be_told_apart(tmp_path):
    curves = read_curves(table(tmp_path, ["a"], range(1, 1801), lambda i, e: e / 2000))
    assert curves.values.shape == (1, 600)
    assert curves.ends[:2] == [(1, 3), (4, 6)]
    assert curves.values[0, 0] == pytest.approx(2 / 2000)
    assert curves.newest.tolist() == [0.9]


@pytest.mark.parametrize(
    ("metrics", "main"),
    [(("mAP50-95(B)", "mAP50-95(M)"), "mAP50-95(M)"), (("pixel_acc", "mIoU"), "mIoU"), (("top5", "top1"), "top1")],
)
def test_the_main_metric_of_each_task_is_drawn(tmp_path, metrics, main):
    assert read_curves(table(tmp_path, ["a"], [1], lambda i, e: 0.5, metrics, main)).metric == main


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="has no class to draw"):
        read_curves(table(tmp_path, ["a"], [], lambda i, e: 0.5))
    with pytest.raises(ValueError, match=r"no class of .* occurs in the validation set"):
        read_curves(table(tmp_path, ["a"], [1], lambda i, e: None))


def written(folder, *lines, header="epoch,class,images,mAP50-95"):
    path = folder / "classes.csv"
    path.write_text("".join(f"{line}\n" for line in (header, *lines)).removesuffix("|\n"), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ("mAP50-95(B),mAP50-95(P)", "mAP50-95(P)"),  # the head that the task is about
        ("mAP50-95(B),mAP50(B)", "mAP50-95(B)"),
        ("top1,mAP50-95", "mAP50-95"),
        ("mIoU,top1", "mIoU"),
    ],
)
def test_of_several_metrics_the_main_one_is_read(metrics, expected, tmp_path):
    path = written(tmp_path, "1,a,3,0.5,0.25", header=f"epoch,class,images,{metrics}")
    curves = read_curves(path)
    assert curves.metric == expected
    assert curves.newest.tolist() == [0.5 if metrics.startswith(expected) else 0.25]


def test_a_table_without_such_a_metric_has_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="has no class to draw"):
        read_curves(written(tmp_path, "1,a,3,0.5", header="epoch,class,images,recall"))


def test_an_empty_file_and_none(tmp_path):
    (tmp_path / "classes.csv").touch()
    with pytest.raises(ValueError, match="has no class to draw"):
        read_curves(tmp_path / "classes.csv")
    with pytest.raises(FileNotFoundError):
        read_curves(tmp_path / "nothing.csv")


def test_a_row_that_is_half_written_is_left_out(tmp_path):
    path = written(tmp_path, "1,a,3,0.5", "1,b,3,0.25", "2,a,3,0.75", "2,b,3,0.1|")
    curves = read_curves(path)
    assert curves.ends == [(1, 1), (2, 2)]
    assert curves.values[0].tolist() == [0.5, 0.75]
    assert curves.values[1, 0] == 0.25
    assert math.isnan(curves.values[1, 1])
    assert curves.newest.tolist() == [0.75, 0.25]


def test_a_row_that_has_lost_a_cell_is_left_out(tmp_path):
    curves = read_curves(written(tmp_path, "1,a,0.9", "", "1,b,3,0.25", "2,a,3,0.75"))
    assert (curves.names, curves.newest.tolist()) == (["b", "a"], [0.25, 0.75])


def test_a_class_that_is_measured_now_and_then_keeps_its_newest_value(tmp_path):
    curves = read_curves(written(tmp_path, "1,a,3,0.5", "2,a,0,", "1,b,0,", "2,b,0,"))
    assert (curves.names, curves.absent, curves.ends) == (["a"], ["b"], [(1, 1)])
    assert curves.newest.tolist() == [0.5]


VALUES = st.one_of(st.none(), st.floats(0, 1))


@settings(max_examples=50)
@given(
    st.integers(1, 4).flatmap(
        lambda classes: st.lists(
            st.tuples(st.integers(1, 3), st.lists(VALUES, min_size=classes, max_size=classes)), min_size=1, max_size=12
        )
    ),
    st.integers(1, 5),
)
def test_columns_are_means_of_the_epochs_that_they_stand_for(tmp_path_factory, steps, most):
    epochs = np.cumsum([gap for gap, _ in steps]).tolist()
    names = [f"class {number}" for number in range(len(steps[0][1]))]
    lines = [
        f"{epoch},{name},3,{'' if value is None else repr(value)}"
        for epoch, (_, values) in zip(epochs, steps)
        for name, value in zip(names, values)
    ]
    path = written(tmp_path_factory.mktemp("table"), *lines)
    by_name = {
        name: {e: v for e, (_, vs) in zip(epochs, steps) if (v := vs[number]) is not None}
        for number, name in enumerate(names)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_curves, "_MAX_COLUMNS", most)
        if not any(by_name.values()):
            with pytest.raises(ValueError, match="occurs in the validation set"):
                read_curves(path)
            return
        curves = read_curves(path)
    assert set(curves.names) == {name for name, known in by_name.items() if known}
    assert curves.absent == [name for name, known in by_name.items() if not known]
    assert curves.newest.tolist() == [by_name[name][max(by_name[name])] for name in curves.names]
    assert len(curves.ends) <= most
    measured = {epoch for known in by_name.values() for epoch in known}
    assert {e for first, last in curves.ends for e in range(first, last + 1)} >= measured
    for column, (first, last) in enumerate(curves.ends):
        assert measured & set(range(first, last + 1))
        for row, name in enumerate(curves.names):
            known = [value for epoch, value in by_name[name].items() if first <= epoch <= last]
            expected = np.mean(known) if known else np.nan
            assert curves.values[row, column] == pytest.approx(expected, nan_ok=True)
