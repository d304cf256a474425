import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers import NAN, SKIPPED, record, stop_epoch
from yolo_callbacks import EarlyStopping, EpochRecord, History, Plan
from yolo_callbacks.callbacks.early_stopping import DEFAULT_PATIENCE
from yolo_callbacks.core.forecast import ForecastFold, expected_excess
from yolo_callbacks.core.monitor import Monitor

FITNESS = Monitor.of("fitness")
PLANS = [Plan(planned_epochs=60), Plan(planned_epochs=60, warmup_epochs=3.0, close_mosaic=10)]

steps = st.lists(st.floats(1e-3, 0.1), min_size=60, max_size=60)
noise = st.lists(st.floats(-1.0, 1.0).map(lambda v: round(v, 3)), min_size=60, max_size=60)


def forecasts(values, plan=None, monitor=FITNESS, **arguments):
    """Return the state after each epoch."""
    plan = plan or Plan(planned_epochs=len(values))
    fold, history, states = ForecastFold(monitor, **arguments), History(plan), []
    for epoch, value in enumerate(values, start=1):
        history.append(record(epoch, value, key=monitor.name, planned=plan.planned_epochs))
        states.append(history.fold(fold))
    return states


def gains(values, plan=None, **arguments):
    return [state.expected_gain for state in forecasts(values, plan, **arguments)]


def saturating(epochs=100, noise_level=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return [0.8 * (1 - math.exp(-e / 15)) + noise_level * rng.normal() for e in range(1, epochs + 1)]


def overfitting(epochs=100):
    return [0.6 - 0.00015 * (e - 30) ** 2 + 0.004 * (-1) ** e for e in range(1, epochs + 1)]


@pytest.mark.parametrize("plan", PLANS)
@given(noise)
def test_a_curve_that_rises_in_every_epoch_is_never_stopped(plan, values):
    rising = list(accumulate(0.001 + abs(value) for value in values))
    assert stop_epoch(EarlyStopping(patience="auto", tolerance=0.9), rising, plan=plan) is None


@pytest.mark.parametrize("plan", PLANS)
@given(st.floats(-1e3, 1e3))
def test_a_constant_one_is_stopped_half_way(plan, value):
    assert stop_epoch(EarlyStopping(patience="auto"), [value] * 60, plan=plan) == 30


@given(noise, st.sampled_from([0.001, 0.37, 8.0, 1e4]), st.floats(-5.0, 5.0), st.sampled_from([0.01, 0.1, 0.3]))
@settings(max_examples=50)
def test_neither_the_scale_nor_a_constant_changes_a_decision(values, scale, shift, tolerance):
    plain = gains(values)
    moved = gains([scale * (value + shift) for value in values])
    assert [gain is None for gain in plain] == [gain is None for gain in moved]
    known = [(a, b) for a, b in zip(plain, moved) if a is not None]
    assert all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in known)
    assume(all(abs(a - tolerance) > 1e-6 for a, _ in known))
    stop = EarlyStopping(patience="auto", tolerance=tolerance)
    plan = Plan(planned_epochs=len(values))
    assert stop_epoch(stop, values, plan=plan) == stop_epoch(stop, [scale * (v + shift) for v in values], plan=plan)


@given(noise)
@settings(max_examples=20)
def test_less_of_a_loss_is_like_more_of_a_metric(values):
    loss = Monitor.of("val/box_loss")
    assert gains(values) == gains([-value for value in values], monitor=loss)


@given(noise, st.integers(0, 60))
@settings(max_examples=30)
def test_a_resumed_run_forecasts_as_if_it_had_never_died(values, cut):
    plan, fold = Plan(planned_epochs=60, warmup_epochs=3.0, close_mosaic=10), ForecastFold(FITNESS)
    records = [record(epoch, value, planned=60) for epoch, value in enumerate(values, start=1)]
    history = History(plan, records[:cut])
    history.fold(fold)
    for one in records[cut:]:
        history.append(one)
        history.fold(fold)
    assert history.fold(fold) == History(plan, records).fold(fold)


def test_what_has_converged_is_stopped_though_it_still_rises_now_and_then():
    values = saturating(noise_level=0.001)
    stopped = stop_epoch(EarlyStopping(patience="auto"), values, plan=Plan(planned_epochs=100))
    assert 50 < stopped < 90
    assert max(values) - max(values[:stopped]) < 0.015 * max(values)
    assert stop_epoch(EarlyStopping(patience=25), values, plan=Plan(planned_epochs=100)) is None


def test_what_gets_worse_is_stopped_soon_and_what_comes_back_is_not():
    plan = Plan(planned_epochs=100)
    falling = overfitting()
    assert 30 < stop_epoch(EarlyStopping(patience="auto"), falling, plan=plan) < 60
    returning = [0.5 - 0.01 * min(e, 12) + 0.003 * max(0, e - 12) for e in range(1, 101)]  # best in epoch 1, until 50
    assert stop_epoch(EarlyStopping(patience="auto"), returning, plan=plan) is None
    assert stop_epoch(EarlyStopping(patience=30), returning, plan=plan) == 31


def test_the_noisier_the_longer_the_patience():
    plan = Plan(planned_epochs=100)
    stops = [
        np.mean([stop_epoch(EarlyStopping(patience="auto"), saturating(100, level, seed), plan=plan) or 100
                 for seed in range(10)])
        for level in (0.001, 0.01, 0.05)
    ]  # fmt: skip
    assert stops[0] < stops[1] < stops[2]


def test_a_larger_tolerance_stops_no_later():
    values = saturating(noise_level=0.004)
    plan = Plan(planned_epochs=100)
    stops = [
        stop_epoch(EarlyStopping(patience="auto", tolerance=tolerance), values, plan=plan) or 100
        for tolerance in (0.001, 0.005, 0.015, 0.05, 0.2)
    ]
    assert stops == sorted(stops, reverse=True)
    assert stops[0] > stops[-1]


def test_a_gain_has_to_exceed_min_delta():
    values = saturating(noise_level=0.004)
    demanding = gains(values, monitor=Monitor.of("fitness", min_delta=0.02))
    relative = gains(values, monitor=Monitor.of("fitness", min_delta=0.02, min_delta_mode="rel"))
    for plain, absolute, share in zip(gains(values), demanding, relative):
        if plain is not None:
            assert absolute < share < plain  # fitness is below 1: a share of it is less


def test_nothing_is_said_before_a_full_window_after_the_warm_up():
    values = saturating()
    first = [state.expected_gain is not None for state in forecasts(values)].index(True) + 1
    warm = Plan(planned_epochs=100, warmup_epochs=2.5)
    after_warm_up = [gain is not None for gain in gains(values, warm)].index(True) + 1
    asked = [gain is not None for gain in gains(values, start_from_epoch=12)].index(True) + 1
    assert (first, after_warm_up, asked) == (25, 28, 37)


def test_nothing_is_said_once_mosaic_has_closed():
    known = [gain is not None for gain in gains(saturating(), Plan(planned_epochs=100, close_mosaic=10))]
    assert known == [False] * 24 + [True] * 66 + [False] * 10


def test_nothing_is_said_of_an_unknown_end():
    history = History(Plan(), [record(epoch, value, planned=0) for epoch, value in enumerate(overfitting(), start=1)])
    assert history.fold(ForecastFold(FITNESS)).expected_gain is None


@pytest.mark.parametrize("missing", [SKIPPED, NAN, math.inf])
def test_an_epoch_without_a_value_is_left_out(missing):
    values = [0.2 + 0.1 * math.log(epoch) for epoch in range(1, 101)]  # the same line through any of its points
    whole, gaps = gains(values), gains([v if i % 5 else missing for i, v in enumerate(values, start=1)])
    assert all(gaps[epoch - 1] is None for epoch in range(5, 101, 5))
    for epoch, (expected, gain) in enumerate(zip(whole, gaps), start=1):
        if epoch >= 25 and epoch % 5:
            assert gain == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("centre", "scale", "goal"), [(0.0, 1.0, 0.0), (0.3, 0.1, 0.5), (2.0, 0.7, -1.0), (0.0, 2.0, 9)]
)
def test_expected_excess_is_the_mean_of_what_lies_above(centre, scale, goal):
    z = np.linspace((goal - centre) / scale, (goal - centre) / scale + 2000, 4_000_001)
    density = 0.375 * (1 + z * z / 4) ** -2.5
    excess = (centre + scale * z - goal) * density
    above = float(((excess[1:] + excess[:-1]) / 2 * np.diff(z)).sum())
    assert expected_excess(centre, scale, goal) == pytest.approx(above, rel=1e-4)


def test_auto_is_what_is_used_where_nobody_has_asked_for_a_patience():
    falling, plan = overfitting(), Plan(planned_epochs=100, trainer_patience=DEFAULT_PATIENCE)
    expected = stop_epoch(EarlyStopping(patience="auto"), falling, plan=plan)
    assert stop_epoch(EarlyStopping(), falling, plan=plan) == expected
    for asked, epoch in ((0, None), (25, 55), (101, None)):  # train(patience=asked)
        plan = Plan(planned_epochs=100, trainer_patience=asked)
        assert stop_epoch(EarlyStopping(), falling, plan=plan) == epoch
        assert stop_epoch(EarlyStopping(patience="auto"), falling, plan=plan) == expected
    waiting = EarlyStopping(baseline=0.9)  # a baseline needs a wait: the trainer's own
    assert stop_epoch(waiting, falling, plan=Plan(planned_epochs=120, trainer_patience=DEFAULT_PATIENCE)) == 100


def test_the_default_patience_is_ultralytics_own():
    from ultralytics.utils import DEFAULT_CFG

    assert DEFAULT_CFG.patience == DEFAULT_PATIENCE


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"patience": "Auto"}, TypeError, "patience='Auto' must be a whole number of epochs >= 1, .* or 'auto'"),
        ({"patience": "auto", "tolerance": 0.0}, ValueError, "tolerance=0.0 must be"),
        ({"patience": "auto", "tolerance": 1.5}, ValueError, "tolerance=1.5 must be"),
        (
            {"patience": "auto", "baseline": 0.5},
            ValueError,
            "baseline=0.5 needs a patience in epochs, not patience=.auto.",
        ),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**arguments)


def test_the_reason_is_told():
    plan, history = Plan(planned_epochs=100), History(Plan(planned_epochs=100))
    callback = EarlyStopping(patience="auto")
    for epoch, value in enumerate(overfitting(), start=1):
        history.append(EpochRecord(epoch, {"fitness": value}, planned_epochs=plan.planned_epochs))
        if decisions := callback.decide(history):
            break
    assert decisions[0].message.startswith("stop, the rest of the run is expected to add ")
    assert "% to the progress in fitness, less than the tolerance of 1.5 % (best: 0.60" in decisions[0].message
    assert callback.counters(history)["expected_gain"] < 0.015
