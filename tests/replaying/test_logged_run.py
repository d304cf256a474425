"""What is known of a run beside its curve: its arguments, its learning rates, its journal."""

import json

import pytest

import yolo_callbacks as ycb
from tests.replaying.logs import rise_and_fall, write_args, write_csv
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.replaying.arguments import read_arguments
from yolo_callbacks.replaying.logged_run import read_run
from yolo_callbacks.replaying.search import find_logs
from yolo_callbacks.run_dir.journal import Journal
from yolo_callbacks.run_dir.results_log import UnusableError


def only_run(path):
    (files,), missing = find_logs(path)
    assert not missing
    return read_run(files)


def write_journal(folder, fitness, callbacks=None, planned=100, **metrics):
    plan = ycb.Plan(planned_epochs=planned, base_lr=0.01, final_lr=1e-4, trainer_patience=100)
    ledger = Ledger(callbacks or {}, plan)
    ledger.begin()
    for epoch, value in enumerate(fitness, start=1):
        numbers = {"fitness": value, **metrics}
        rates = {"base_lr": 0.01, "next_base_lr": 0.01, "lr_factor": 0.5}
        ledger.add(ycb.EpochRecord(epoch, numbers, planned_epochs=planned, elapsed=60.0 * epoch, **rates))
    Journal(folder / "callbacks" / "journal.jsonl").begin(ledger.content)
    return ledger


def arguments(folder, given, *, classifies=False, yolov5=False):
    write_args(folder, given)
    return read_arguments(folder, classifies=classifies, yolov5=yolov5)


@pytest.mark.parametrize(
    ("given", "close_mosaic"),
    [
        ({"task": "detect"}, 10),
        ({"task": "detect", "close_mosaic": 4}, 4),
        ({"task": "detect", "close_mosaic": 0}, 0),
        ({"task": "detect", "mosaic": 0.0}, 0),
        ({"task": "detect", "mosaic": 0.0, "mixup": 0.1}, 10),
        ({"task": "classify", "mosaic": 1.0}, 0),
    ],
)
def test_mosaic_closes_only_where_there_is_any(tmp_path, given, close_mosaic):
    assert arguments(tmp_path, given).close_mosaic == close_mosaic


def test_yolov5_never_closes_its_mosaic(tmp_path):
    (tmp_path / "opt.yaml").write_text("epochs: 30\npatience: 7\nhyp:\n  lrf: 0.2\n  mosaic: 1.0\n")
    found = read_arguments(tmp_path, classifies=False, yolov5=True)
    assert (found.known, found.epochs, found.patience, found.close_mosaic) == (True, 30, 7, 0)


@pytest.mark.parametrize("text", ["", "epochs: [1\n", "just words", "epochs: many\npatience: null\n", "\0\0"])
def test_without_arguments_there_are_ultralytics_defaults(tmp_path, text):
    (tmp_path / "args.yaml").write_text(text)
    found = read_arguments(tmp_path, classifies=False, yolov5=False)
    assert (found.epochs, found.patience, found.warmup_epochs, found.close_mosaic) == (None, 100, 3.0, 10)
    assert found.known == ("many" in text)


def test_the_plan_comes_from_the_arguments(tmp_path):
    folder = write_csv(tmp_path, [0.1, 0.2], epochs=50, patience=0, warmup_epochs=1.5, close_mosaic=5)
    plan = only_run(folder).plan
    assert (plan.planned_epochs, plan.trainer_patience, plan.warmup_epochs, plan.close_mosaic) == (50, 0, 1.5, 5)


def test_without_arguments_the_planned_epochs_are_the_logged_ones(tmp_path):
    run = only_run(write_csv(tmp_path, [0.1, 0.2, 0.1]))
    assert not run.arguments_known
    assert [record.planned_epochs for record in run.records] == [3, 3, 3]
    assert [record.last for record in run.records] == [False, False, True]


def test_a_log_that_goes_on_beyond_its_arguments_was_planned_that_long(tmp_path):
    assert only_run(write_csv(tmp_path, [0.1, 0.2, 0.1], epochs=2)).plan.planned_epochs == 3


def rates(folder, values, **given):
    lines = [f"{epoch},0.5,1.0,{value:.6g},{2 * value:.6g}" for epoch, value in enumerate(values, start=1)]
    folder.mkdir(exist_ok=True)
    (folder / "results.csv").write_text("\n".join(["epoch,metrics/mAP50-95(B),val/loss,lr/pg0,lr/pg1", *lines, ""]))
    write_args(folder, {"epochs": len(values), "lrf": 0.1, **given})
    return only_run(folder)


@pytest.mark.parametrize("cosine", [False, True])
def test_the_schedule_is_found_again_under_its_warm_up(tmp_path, cosine):
    from ultralytics.utils.torch_utils import one_cycle

    schedule = one_cycle(1, 0.1, 20) if cosine else lambda x: max(1 - x / 20, 0) * (1.0 - 0.1) + 0.1
    own = [0.002 * schedule(epoch) for epoch in range(20)]
    run = rates(tmp_path, [own[0] / 3, own[1] * 2 / 3, *own[2:]], warmup_epochs=2, cos_lr=cosine)
    assert [record.base_lr for record in run.records] == pytest.approx(own, rel=1e-4)
    assert [record.next_base_lr for record in run.records[:-1]] == pytest.approx(own[1:], rel=1e-4)
    assert (run.plan.base_lr, run.plan.final_lr) == pytest.approx((0.002, 0.0002), rel=1e-4)


def test_where_there_is_another_schedule_it_is_the_logged_rates(tmp_path):
    logged = [0.001, 0.01, 0.01, 0.005, 0.005]
    run = rates(tmp_path, logged, warmup_epochs=1)
    assert [record.base_lr for record in run.records] == logged
    assert run.plan.final_lr == pytest.approx(0.001)


def test_without_rates_there_are_none(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,metrics/mAP50-95(B)\n1,0.5\n")
    run = only_run(tmp_path)
    assert (run.plan.base_lr, run.plan.final_lr, run.records[0].base_lr) == (None, None, None)


@pytest.mark.parametrize(
    ("columns", "score"),
    [
        ({"metrics/mAP50-95(B)": 0.5}, 0.5),
        ({"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(M)": 0.25}, 0.375),
        ({"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(P)": 0.0}, 0.25),
        ({"metrics/accuracy_top1": 0.5, "metrics/accuracy_top5": 0.75}, 0.5),
        ({"metrics/mIoU": 0.4, "metrics/pixel_acc": 0.9}, 0.4),
        ({"metrics/delta1": 0.3, "metrics/abs_rel": 0.9}, 0.3),
    ],
)
def test_what_a_model_is_judged_by(tmp_path, columns, score):
    text = f"epoch,{','.join(columns)}\n1,{','.join(map(str, columns.values()))}\n"
    (tmp_path / "results.csv").write_text(text)
    assert only_run(tmp_path).scores == [score]


def test_a_run_directory_is_read_from_its_journal_and_a_file_from_itself(tmp_path):
    folder = write_csv(tmp_path / "run", [0.1, 0.2])
    write_journal(folder, [0.123456789, 0.2])
    run = only_run(folder)
    assert (run.source, run.records[0].metrics["fitness"], run.scores[0]) == ("journal.jsonl", 0.123456789, 0.123456789)
    assert run.plan.base_lr == 0.01
    assert {record.lr_factor for record in run.records} == {1.0}  # what its own callbacks did is theirs
    assert only_run(folder / "results.csv").source == "results.csv"
    assert only_run(folder / "callbacks" / "journal.jsonl").source == "journal.jsonl"


def test_epochs_that_only_ultralytics_has_logged_are_added(tmp_path):
    folder = write_csv(tmp_path, [0.1, 0.2, 0.3, 0.4])
    write_journal(folder, [0.15, 0.25])
    assert [record.metrics["fitness"] for record in only_run(folder).records] == [0.15, 0.25, 0.3, 0.4]


@pytest.mark.parametrize("damage", ["newer", "nonsense", "empty"])
def test_a_journal_that_cannot_be_used_leaves_results_csv(tmp_path, damage):
    folder = write_csv(tmp_path, rise_and_fall(2, 4))
    write_journal(folder, [0.5, 0.5], {"EarlyStopping": ycb.EarlyStopping(patience=1)})
    path = folder / "callbacks" / "journal.jsonl"
    lines = path.read_text().splitlines()
    changed = {
        "newer": lines[0] + "\n" + json.dumps({"format": 99}),
        "nonsense": "nonsense",
        "empty": "",
    }
    path.write_text(changed[damage])
    assert only_run(folder).source == "results.csv"
    (folder / "results.csv").unlink()
    with pytest.raises(UnusableError):
        only_run(folder)
