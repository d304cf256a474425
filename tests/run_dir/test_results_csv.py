import pytest

from yolo_callbacks.run_dir.results_csv import mend_results_csv, read_results_csv, results_in_checkpoint


def test_results_csv(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(
        "                  epoch,         time,   train/box_loss, metrics/mAP50-95(B)\n"
        "  1, 1.5, 2.0, 0.1\n  2, 3.0, nan, 0.2\n  2, 0.5, 1.5, 0.3\n  3, 1.0"
    )
    records = read_results_csv(path)
    assert [r.epoch for r in records] == [1, 2, 3]
    assert records[1].metrics == {"train/box_loss": 1.5, "metrics/mAP50-95(B)": 0.3, "fitness": 0.3}
    assert records[0].elapsed == 1.5


@pytest.mark.parametrize(
    ("header", "row", "fitness", "validated"),
    [
        ("metrics/mAP50-95(B),metrics/mAP50-95(M),val/box_loss", "0.5,0.25,1.0", 0.75, True),
        ("metrics/accuracy_top1,metrics/accuracy_top5,val/loss", "0.5,1.0,2.0", 0.75, True),
        ("metrics/mIoU,metrics/pixel_acc,val/ce_loss", "0.4,0.9,1.0", 0.4, True),
        ("metrics/delta1,metrics/abs_rel,val/dlog_loss", "0.3,0.2,1.0", 0.3, True),
        ("metrics/mAP50-95(B),val/box_loss", "0,3.5", 0.0, True),  # found nothing, but was validated
        ("metrics/mAP50-95(B),val/box_loss", "0,0", None, False),  # val=False
    ],
)
def test_results_csv_of_every_task(tmp_path, header, row, fitness, validated):
    path = tmp_path / "results.csv"
    path.write_text(f"epoch,time,train/loss,{header},lr/pg0\n1,2.5,9.0,{row},0.01\n")
    (item,) = read_results_csv(path)
    assert item.metrics.get("fitness") == fitness
    assert item.validated is validated
    assert ("val/box_loss" in item.metrics) <= validated
    assert item.metrics["train/loss"] == 9.0
    assert item.metrics["lr/pg0"] == 0.01


def test_seconds_are_summed_over_resumes(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch,time,val/loss\n1,5,1\n2,9,1\n3,4,1\n4,8,1\n5,3,1\n")
    assert [record.elapsed for record in read_results_csv(path)] == [5, 9, 13, 17, 20]


def test_results_in_a_checkpoint():
    columns = {"epoch": [1, 2], "time": [1.0, 2.0], "metrics/mAP50-95(B)": [0.1, 0.2]}
    assert [r.metrics["fitness"] for r in results_in_checkpoint({"train_results": columns})] == [0.1, 0.2]
    assert results_in_checkpoint({}) == results_in_checkpoint({"train_results": {}}) == []


@pytest.mark.parametrize(
    ("text", "done", "mended", "gone"),
    [
        ("epoch,a\n1,5\n2,6\n", 2, "epoch,a\n1,5\n2,6\n", 0),
        ("epoch,a\n1,5\n2,6\n3,7\n", 2, "epoch,a\n1,5\n2,6\n", 1),  # killed before the checkpoint of epoch 3
        ("epoch,a\n1,5\n2,6\n2,7\n", 2, "epoch,a\n1,5\n2,7\n", 1),  # resumed without us before
        ("epoch,a\n1,5\n2,6\n3,", 2, "epoch,a\n1,5\n2,6\n", 1),  # killed while it wrote
        ("  epoch,  a\n  1,  5\n", 1, "  epoch,  a\n  1,  5\n", 0),
        ("", 3, "", 0),
    ],
)
def test_results_csv_is_left_with_one_row_an_epoch(tmp_path, text, done, mended, gone):
    path = tmp_path / "results.csv"
    path.write_text(text)
    assert mend_results_csv(path, done) == gone
    assert path.read_text() == mended


def test_there_may_be_no_results_csv(tmp_path):
    assert mend_results_csv(tmp_path / "results.csv", 3) == 0
