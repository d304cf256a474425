import pytest

from tests.helpers import NAN, SKIPPED, decisions_of, stop_epoch
from yolo_callbacks import EarlyStopping, Plan, SaveCheckpoint, Stop, StopReason

RISING = [0.1 * i for i in range(1, 11)]


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        (RISING, {"patience": 1}, None),
        ([0.5] * 10, {"patience": 3}, 4),
        ([0.0] * 10, {"patience": 3}, 4),  # Ultralytics' own never stops on this
        ([0.1, 0.5, 0.4, 0.4, 0.4], {"patience": 3}, 5),
        ([0.1, 0.5, 0.4, 0.4, 0.6, 0.5, 0.5], {"patience": 3}, None),
        ([0.5, SKIPPED, SKIPPED, SKIPPED, 0.4, SKIPPED, 0.4], {"patience": 2}, 5),
        ([0.5, SKIPPED, SKIPPED, SKIPPED, 0.6, SKIPPED, 0.4], {"patience": 2}, 7),
        ([0.1, 0.105, 0.109, 0.112], {"patience": 2, "min_delta": 0.01}, 3),
        ([0.1, 0.2, 0.2, 0.2], {"patience": 2, "start_from_epoch": 2}, None),
        ([0.1, 0.2, 0.2, 0.2, 0.2], {"patience": 2, "start_from_epoch": 2}, 5),
        ([0.1, 0.2, 0.3, 0.4, 0.4], {"patience": 3, "baseline": 0.5}, 5),  # not in an epoch that improves, as in Keras
        ([0.1, 0.6, 0.3, 0.4], {"patience": 3, "baseline": 0.5}, None),
        ([0.1, 0.2, 0.9], {"patience": 50, "stopping_threshold": 0.9}, 3),
        ([0.1, 0.2, 0.05], {"patience": 50, "divergence_threshold": 0.08}, 3),
        ([0.1, NAN], {"patience": 50}, 2),
        ([0.1, float("inf")], {"patience": 50}, 2),
        ([0.1, NAN, NAN, 0.2, 0.1], {"patience": 3, "check_finite": False}, None),
        ([NAN] * 5, {"patience": 3, "check_finite": False}, 3),
    ],
)
def test_when_it_stops(values, settings, expected):
    assert stop_epoch(EarlyStopping(**settings), values) == expected


@pytest.mark.parametrize(("patience", "planned", "expected"), [(0.1, 100, 11), (0.5, 8, 5), (0.9, 1000, None)])
def test_patience_as_a_share_of_the_planned_epochs(patience, planned, expected):
    callback = EarlyStopping(patience=patience)
    assert stop_epoch(callback, [0.5] * 50, plan=Plan(planned_epochs=planned)) == expected


@pytest.mark.parametrize(("trainer_patience", "expected"), [(4, 5), (0, None)])
def test_no_patience_of_its_own_means_the_trainers(trainer_patience, expected):
    plan = Plan(planned_epochs=100, trainer_patience=trainer_patience)
    assert stop_epoch(EarlyStopping(), [0.5] * 50, plan=plan) == expected


def test_less_is_better_for_a_loss():
    values = [3.0, 2.0, 2.5, 2.5]
    callback = EarlyStopping(monitor="val/box_loss", patience=2)
    assert stop_epoch(callback, values, key="val/box_loss") == 4
    limit = EarlyStopping(monitor="val/box_loss", patience=9, divergence_threshold=2.9)
    assert stop_epoch(limit, [2.0, 2.8, 3.0], key="val/box_loss") == 3


@pytest.mark.parametrize(
    ("values", "settings", "reason", "sentence"),
    [
        (
            [0.5, 0.4],
            {"patience": 1},
            StopReason.PLATEAU,
            "no improvement in fitness for 1 epoch (best: 0.5 in epoch 1)",
        ),
        (
            [0.0, 0.0],
            {"patience": 1},
            StopReason.PLATEAU,
            "no improvement in fitness for 1 epoch (still 0)",
        ),
        (
            [0.4, 0.3],
            {"patience": 2, "baseline": 0.5},
            StopReason.PLATEAU,
            "fitness has not beaten the baseline of 0.5 for 2 epochs (best: 0.4 in epoch 1)",
        ),
        ([0.9], {"stopping_threshold": 0.8}, StopReason.THRESHOLD, "fitness 0.9 has reached stopping_threshold=0.8"),
        (
            [0.1],
            {"divergence_threshold": 0.2},
            StopReason.DIVERGED,
            "fitness 0.1 is worse than divergence_threshold=0.2",
        ),
        ([NAN], {}, StopReason.NOT_FINITE, "fitness is nan"),
    ],
)
def test_reason_and_sentence(values, settings, reason, sentence):
    (stop,) = (d for d in decisions_of(EarlyStopping(**settings), values) if isinstance(d, Stop))
    assert stop.reason is reason
    assert sentence in stop.message


def test_each_new_best_is_kept_when_it_is_to_be_restored():
    callback = EarlyStopping(monitor="val_loss", patience=9, restore_best_weights=True)
    kept = decisions_of(callback, [3.0, 2.0, 2.0, 2.5, 1.0], key="val/box_loss")
    assert [(d.epoch, d.value, d.role) for d in kept if isinstance(d, SaveCheckpoint)] == [
        (1, 3.0, "restore"),
        (2, 2.0, "restore"),
        (5, 1.0, "restore"),
    ]
    assert {d.file for d in kept} == {"weights/restore-val_loss.pt"}


def test_min_delta_does_not_hide_a_best_from_being_restored():
    callback = EarlyStopping(patience=9, min_delta=0.1, restore_best_weights=True)
    assert [d.epoch for d in decisions_of(callback, [0.10, 0.15, 0.12])] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"patience": -3}, ValueError, "patience=-3 must be >= 1"),
        ({"patience": "ten"}, TypeError, "patience='ten' must be a whole number"),
        ({"min_delta": -0.1}, ValueError, "min_delta=-0.1 must be a finite number >= 0"),
        ({"monitor": "mAP5"}, ValueError, "did you mean 'mAP50'?"),
        ({"mode": "up"}, ValueError, "mode='up' is not one of"),
        ({"restore_best_weights": "yes"}, TypeError, "restore_best_weights='yes' must be True or False"),
        ({"stopping_threshold": "high"}, TypeError, "stopping_threshold='high' must be a number"),
        ({"start_from_epoch": -1}, ValueError, "start_from_epoch=-1 must be >= 0"),
        ({"monitor": lambda m: 0.0}, ValueError, "mode='auto' cannot know"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        EarlyStopping(**arguments)
    assert message in str(caught.value)
