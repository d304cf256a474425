"""What counts as waiting in a real training: warm-up, the main part, the epochs after mosaic has closed."""

import pytest

import yolo_callbacks as ycb
from tests.helpers import constant
from yolo_callbacks.run_dir.journal import read_journal


@pytest.mark.parametrize(
    ("arguments", "warmup", "close_mosaic"),
    [
        ({"warmup_epochs": 1.5, "close_mosaic": 3}, 1.5, 3),
        ({"warmup_epochs": 3, "close_mosaic": 2, "mosaic": 0.0}, 3.0, 0),  # nothing is mixed, nothing changes
        ({"warmup_epochs": 3, "close_mosaic": 2, "mosaic": 0.0, "mixup": 0.5}, 3.0, 2),
        ({"warmup_epochs": 9, "close_mosaic": 0}, 7.0, 0),  # Ultralytics leaves one epoch
    ],
)
def test_the_plan_knows_the_regimes(arguments, warmup, close_mosaic, train):
    def stop(trainer):
        trainer.stop = True

    before = lambda model: model.add_callback("on_train_epoch_start", stop)  # noqa: E731
    run = train([ycb.CSVLogger()], before=before, epochs=8, **arguments)
    plan = read_journal(run.save_dir / "callbacks" / "journal.jsonl").plan
    assert (plan.warmup_epochs, plan.close_mosaic) == (warmup, close_mosaic)


def test_only_the_main_part_adds_to_a_wait(train):
    rule = ycb.EarlyStopping(monitor=constant, mode="max", patience=9)
    run = train([rule], epochs=8, warmup_epochs=2.0, close_mosaic=3)
    assert run.history["EarlyStopping/wait"].tolist() == [0, 0, 1, 2, 3, 3, 3, 3]


def test_auto_decides_live_as_in_a_replay(train):
    rule = ycb.EarlyStopping(monitor=constant, mode="max", patience="auto")
    run = train([rule], epochs=24, warmup_epochs=1.5, close_mosaic=3)
    assert (run.stop_reason, len(run.history)) == (ycb.StopReason.PLATEAU, 12)  # nothing has moved in half of the plan
    assert run.history["EarlyStopping/expected_gain"].dropna().to_dict() == {12: 0.0}
    again = ycb.replay(run.save_dir, {"auto": [rule]}).table.set_index("rule").loc["auto"]
    assert (again["stop_epoch"], again["message"]) == (12, run.stop_message)
