"""What a rule says that can never fire in a run: true of every curve, and no less than is true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import NAN, decisions_of
from yolo_callbacks import BackupAndRestore, EarlyStopping, Finish, ModelCheckpoint, Plan, ReduceLROnPlateau, Stop
from yolo_callbacks.core.decision import StopReason


def plan_of(epochs, close_mosaic=0, warmup=0.0, patience=0):
    return Plan(
        planned_epochs=epochs, close_mosaic=close_mosaic, warmup_epochs=warmup, trainer_patience=patience, base_lr=0.01
    )


@pytest.mark.parametrize(
    ("callback", "plan", "said"),
    [
        (
            EarlyStopping(patience=5),
            plan_of(12, close_mosaic=10),
            "patience=5 cannot run out: at most 2 of the 12 epochs count; "
            "train longer, or lower patience or close_mosaic",
        ),
        (
            ReduceLROnPlateau(patience=2),
            plan_of(12, close_mosaic=10, warmup=3.0),
            "patience=2 cannot run out: none of the 12 epochs counts; "
            "train longer, or lower warmup_epochs or close_mosaic",
        ),
        (
            EarlyStopping(patience=9, start_from_epoch=3),
            plan_of(12),
            "patience=9 cannot run out: at most 8 of the 12 epochs count; "
            "train longer, or lower patience or start_from_epoch",
        ),
        (EarlyStopping(patience=8, start_from_epoch=3), plan_of(12), None),
        (
            EarlyStopping(patience=4, on_plateau="finish", finish_epochs=8),
            plan_of(12),
            "patience=4 cannot run out: at most 3 of the 12 epochs count; "
            "train longer, or lower patience (a finish takes 8 epochs)",
        ),
        (EarlyStopping(patience=3, on_plateau="finish", finish_epochs=8), plan_of(12), None),
        (
            EarlyStopping(),
            plan_of(20, close_mosaic=10, warmup=3.0, patience=100),
            "patience='auto' cannot end this run: of 20 epochs it needs 13, and is silent once mosaic has closed after "
            "epoch 10; train longer, or say how many epochs to wait",
        ),
        (EarlyStopping(), plan_of(23, close_mosaic=10, warmup=3.0, patience=100), None),
        (EarlyStopping(), plan_of(12, close_mosaic=10, patience=0), None),  # never was asked for
        (ModelCheckpoint(every_n_epochs=13), plan_of(12), "every_n_epochs=13 is never due in 12 epochs"),
        (BackupAndRestore(every_n_epochs=12), plan_of(12), None),
        (EarlyStopping(patience=5), Plan(), None),  # nobody knows how long the run is
    ],
)
def test_what_is_said(callback, plan, said):
    assert list(callback.impossible(plan)) == ([] if said is None else [said])


PLANS = st.builds(
    plan_of,
    epochs=st.integers(1, 40),
    close_mosaic=st.integers(0, 15),
    warmup=st.sampled_from([0.0, 1.5, 3.0]),
    patience=st.sampled_from([0, 3, 100]),
)
PATIENCE = st.one_of(st.integers(1, 20), st.floats(0.05, 0.5))
FINISH = st.sampled_from([{}, {"on_plateau": "finish", "finish_epochs": 4}, {"on_plateau": "finish"}])
RULES = st.one_of(
    st.builds(ReduceLROnPlateau, patience=PATIENCE, start_from_epoch=st.integers(0, 5)),
    st.builds(
        lambda more, **given: EarlyStopping(check_finite=False, **more, **given),
        more=FINISH,
        patience=st.one_of(PATIENCE, st.sampled_from([None, "auto"])),
        start_from_epoch=st.integers(0, 5),
    ),
)


def fires(rule, values, plan):
    values = values[: plan.planned_epochs - 1]  # after the last epoch nothing is left to decide
    decided = decisions_of(rule, values, plan=plan)
    ends = [d for d in decided if isinstance(d, (Finish, Stop))]
    assert all(d.reason is StopReason.PLATEAU for d in ends if isinstance(d, Stop))
    return bool(ends or [d for d in decided if d.kind == "set_learning_rate"])


@given(RULES, PLANS, st.lists(st.sampled_from([0.0, 0.3, 0.301, 0.5, NAN, None]), min_size=40, max_size=40))
def test_what_is_impossible_never_happens(rule, plan, values):
    if list(rule.impossible(plan)):
        assert not fires(rule, values, plan)


@given(PLANS, PATIENCE, FINISH, st.integers(0, 5))
def test_what_is_possible_happens_where_nothing_ever_improves(plan, patience, more, start):
    stopping = EarlyStopping(patience=patience, check_finite=False, start_from_epoch=start, **more)
    reducing = ReduceLROnPlateau(patience=patience, start_from_epoch=start)
    assert fires(stopping, [NAN] * 40, plan) is not bool(list(stopping.impossible(plan)))
    assert fires(reducing, [NAN] * 40, plan) is not bool(list(reducing.impossible(plan)))
