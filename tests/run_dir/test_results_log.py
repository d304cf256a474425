"""Each format of results.csv that is about, and what may have become of the files."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.run_dir.results_csv import read_results_csv
from yolo_callbacks.run_dir.results_log import UnusableError, parse_results, read_results_log

NEW = "epoch,time,train/box_loss,metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,lr/pg0\n"


def scores(text, key="metrics/mAP50-95(B)"):
    return {row.epoch: row.metrics.get(key) for row in parse_results(text).rows}


def test_today():
    log = parse_results(NEW + "1,10.5,2,0.3,0.1,3,0.01\n2,21,1.5,0.4,0.2,2.5,0.009\n")
    assert [row.epoch for row in log.rows] == [1, 2]
    assert log.rows[1].metrics == {
        "train/box_loss": 1.5,
        "metrics/mAP50(B)": 0.4,
        "metrics/mAP50-95(B)": 0.2,
        "val/box_loss": 2.5,
        "lr/pg0": 0.009,
        "fitness": 0.2,
    }
    assert [row.elapsed for row in log.rows] == [10.5, 21]
    assert (log.left_out, log.yolov5, log.timed) == (0, False, True)


def test_version_8_pads_its_cells_and_once_counted_from_0():
    text = (
        "                  epoch,         train/box_loss,    metrics/mAP50-95(B),           val/box_loss,    lr/pg0\n"
        "                      0,                 1.0228,                    0.1,                0.92021,  0.0033295\n"
        "                      1,                0.88946,                    0.2,                0.96372,  0.0065969\n"
    )
    log = parse_results(text)
    assert {row.epoch: row.metrics["fitness"] for row in log.rows} == {1: 0.1, 2: 0.2}
    assert not log.timed


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_yolov5_has_names_of_its_own(line_end):
    lines = [
        "               epoch,  train/obj_loss,   metrics/precision,      metrics/recall,     metrics/mAP_0.5,"
        "metrics/mAP_0.5:0.95,      val/obj_loss,   x/lr0,  metrics/cells_mAP",
        "0, 0.1, 0.5, 0.6, 0.4, 0.2, 0.3, 0.07, 9",
        "1, 0.1, 0.5, 0.6, 0.5, 0.3, 0.3, 0.06, 9",
    ]
    log = parse_results(line_end.join([*lines, ""]))
    assert log.yolov5
    assert [row.epoch for row in log.rows] == [1, 2]
    assert log.rows[1].metrics == {
        "train/obj_loss": 0.1,
        "metrics/precision(B)": 0.5,
        "metrics/recall(B)": 0.6,
        "metrics/mAP50(B)": 0.5,
        "metrics/mAP50-95(B)": 0.3,
        "val/obj_loss": 0.3,
        "lr/pg0": 0.06,
        "metrics/cells_mAP": 9,
        "fitness": 0.3,
    }


def test_yolov5_with_masks():
    log = parse_results("epoch,metrics/mAP_0.5:0.95(B),metrics/mAP_0.5:0.95(M),val/box_loss\n0,0.25,0.5,1\n")
    assert log.rows[0].metrics["metrics/mAP50-95(M)"] == 0.5
    assert log.rows[0].metrics["fitness"] == 0.75


def test_a_resumed_run_counts_an_epoch_as_it_was_the_last_time_and_goes_on_with_the_clock():
    rows = "1,10,2,0,0.1,3,0\n2,20,2,0,0.2,3,0\n3,30,2,0,0.3,3,0\n3,8,2,0,0.35,3,0\n4,16,2,0,0.4,3,0\n"
    log = parse_results(NEW + rows)
    assert {row.epoch: row.metrics["fitness"] for row in log.rows} == {1: 0.1, 2: 0.2, 3: 0.35, 4: 0.4}
    assert [row.elapsed for row in log.rows] == [10, 20, 28, 36]


def test_an_epoch_with_nan_is_one_with_nan():
    rows = parse_results(NEW + "1,1,nan,0,0.1,inf,0\n2,2,2,nan,nan,nan,0\n").rows
    assert [math.isnan(row.metrics["fitness"]) for row in rows] == [False, True]
    assert all(row.validated for row in rows)


def test_an_empty_cell_is_a_number_that_is_not_there():
    (row,) = parse_results(NEW + "1,1,,0.2,0.1,2,0\n").rows
    assert "train/box_loss" not in row.metrics
    assert row.metrics["fitness"] == 0.1


@pytest.mark.parametrize(
    "torn", ["3", "3,", "3,30,2,0.", "3,30,2,0,0.3,3,", "3,30,2,0,0.3,3,0,7", "\0\0\0\0", "x,1,2,3,4,5,6"]
)
def test_a_torn_line_is_left_out(torn):
    text = NEW + "1,10,2,0,0.1,3,0\n2,20,2,0,0.2,3,0\n"
    log = parse_results(text + torn)
    known = {1: 0.1, 2: 0.2}
    if torn == "3,30,2,0,0.3,3,":  # only the last number is missing, which is not one that is looked at
        known[3] = 0.3
    assert {row.epoch: row.metrics["fitness"] for row in log.rows} == known
    assert log.left_out == (3 not in known)


@pytest.mark.parametrize("epoch", ["nan", "inf", "-1", "1.5", ""])
def test_a_line_without_the_number_of_an_epoch_is_left_out(epoch):
    assert scores(NEW + f"{epoch},20,2,0,0.2,3,0\n7,10,2,0,0.1,3,0\n") == {7: 0.1}


def test_a_header_in_the_middle_is_no_loss():
    log = parse_results(NEW + "1,10,2,0,0.1,3,0\n" + NEW + "2,20,2,0,0.2,3,0\n\n")
    assert (len(log.rows), log.left_out) == (2, 0)


def test_an_epoch_without_validation_has_no_metrics():
    rows = parse_results(NEW + "1,1,2,0,0,0,0.01\n2,2,2,0,0,4,0.01\n").rows
    assert [row.validated for row in rows] == [False, True]
    assert rows[0].metrics == {"train/box_loss": 2, "lr/pg0": 0.01}
    assert rows[1].metrics["fitness"] == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe", "is not a results.csv: it has no column 'epoch'"),
        ("epoch,metrics/mAP50-95(B)\n1,0.5\n".encode("utf-16"), "is not a results.csv: it has no column 'epoch'"),
        (b"epoch;time;metrics/mAP50-95(B)\n1;2;0.5\n", "is not a results.csv: it has no column 'epoch'"),
        (b"epoch,train/loss,lr/pg0\n1,2,3\n", "has no metric such as metrics/mAP50-95(B)"),
        (NEW.encode(), "has no epochs"),
        (NEW.encode() + b"a;b;c\n", "has no epochs"),
        (NEW.encode() + b"1,1,2,0,0,0,0.01\n", "has no validated epoch"),
    ],
)
def test_what_cannot_be_used(tmp_path, content, reason):
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    with pytest.raises(UnusableError) as error:
        read_results_log(path)
    assert str(error.value) == reason


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch,metrics/accuracy_top1,metrics/accuracy_top5,val/loss\n1,0.5,0.75,1\n", encoding="utf-8-sig")
    assert read_results_log(path).rows[0].metrics["fitness"] == 0.625


numbers = st.floats(0.0, 10.0).map(lambda value: float(f"{value:.6g}"))
epochs = st.lists(
    st.tuples(numbers, st.one_of(numbers.filter(bool), st.just(math.nan)), numbers, st.booleans()),
    min_size=1,
    max_size=12,
)


@given(epochs, st.integers(0, 25), st.sampled_from([0, 1]), st.randoms(use_true_random=False), st.booleans())
def test_whatever_the_padding_and_however_often_an_epoch_stands_there_the_same_is_read(
    written, width, first, random, torn
):
    names = ["epoch", "train/box_loss", "metrics/mAP50-95(B)", "val/box_loss"]
    lines = [",".join(name.rjust(width) for name in names)]

    def line(epoch, *values):
        return ",".join(f"{value:.6g}".rjust(random.randint(0, width)) for value in (epoch, *values))

    for epoch, (*values, twice) in enumerate(written, start=first):
        if twice:
            lines.append(line(epoch, 1.0, random.random(), 2.0))
        lines.append(line(epoch, *values))
    text = "\n".join(lines) + "\n"
    log = parse_results(text + (line(len(written) + 5, 1.0)[:-1] if torn else ""))
    assert [row.epoch for row in log.rows] == list(range(1, len(written) + 1))
    for row, (*values, _) in zip(log.rows, written):
        assert [row.metrics[name] for name in names[1:]] == pytest.approx(values, nan_ok=True)
        assert row.metrics["fitness"] == pytest.approx(values[1], nan_ok=True)
    assert log.left_out == torn


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=8))
def test_it_reads_what_a_resumed_training_reads(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("csv") / "results.csv"
    rows = "".join(
        f"{epoch},{10 * epoch},{','.join(f'{value:.6g}' for value in values)}\n"
        for epoch, values in enumerate([*written, (1, 1, 1, 1)], start=1)
    )
    path.write_text("epoch,time,train/box_loss,metrics/mAP50-95(B),metrics/mAP50-95(M),val/box_loss\n" + rows)
    resumed = [(r.epoch, dict(r.metrics), r.validated, r.elapsed) for r in read_results_csv(path)]
    assert [(r.epoch, r.metrics, r.validated, r.elapsed) for r in read_results_log(path).rows] == resumed
