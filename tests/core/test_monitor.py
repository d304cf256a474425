import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import NAN, SKIPPED, record
from yolo_callbacks import EpochRecord, History, Plan, UnknownMetricError
from yolo_callbacks.core.epochs import check_patience, in_epochs
from yolo_callbacks.core.extension import Extension
from yolo_callbacks.core.metrics import check_known
from yolo_callbacks.core.monitor import Monitor, ProgressFold, _counts

finite = st.floats(-1e6, 1e6, allow_nan=False)


def progress(values, monitor=None, **settings):
    fold = ProgressFold(monitor or Monitor.of("fitness"), **settings)
    return History(Plan(), [record(i, v) for i, v in enumerate(values, 1)]).fold(fold)


@pytest.mark.parametrize(
    ("values", "settings", "best", "best_epoch", "wait"),
    [
        ([0.1, 0.2, 0.3], {}, 0.3, 3, 0),
        ([0.3, 0.2, 0.1], {}, 0.3, 1, 2),
        ([0.3, 0.3, 0.3], {}, 0.3, 1, 2),  # a tie is no improvement
        ([0.0, 0.0], {}, 0.0, 1, 1),  # all zero is a plateau like any other
        ([NAN, 0.2, 0.1], {}, 0.2, 2, 1),  # a first NaN does not become the best
        ([0.2, NAN, 0.1], {}, 0.2, 1, 2),
        ([0.2, SKIPPED, SKIPPED], {}, 0.2, 1, 0),  # nothing is known of them yet
        ([0.2, SKIPPED, SKIPPED, 0.1], {}, 0.2, 1, 3),  # the wait counts epochs, not validations
        ([0.2, SKIPPED, SKIPPED, 0.3, 0.1], {}, 0.3, 4, 1),
        ([0.9, 0.1, 0.2], {"start_from_epoch": 1}, 0.2, 3, 0),
        ([0.1, 0.2, 0.3, 0.5], {"baseline": 0.4}, 0.5, 4, 0),
        ([0.1, 0.2, 0.3], {"baseline": 0.4}, 0.3, 3, 3),  # better, but never better than the baseline
        ([math.inf, 0.2], {}, 0.2, 2, 0),
    ],
)
def test_progress(values, settings, best, best_epoch, wait):
    state = progress(values, **settings)
    assert (state.best, state.best_epoch, state.wait) == (best, best_epoch, wait)


def waits(values, plan):
    fold, history, counted = ProgressFold(Monitor.of("fitness")), History(plan), []
    for epoch, value in enumerate(values, start=1):
        history.append(record(epoch, value, planned=plan.planned_epochs))
        counted.append(history.fold(fold).wait)
    return counted


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(planned_epochs=8), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Plan(planned_epochs=8, warmup_epochs=3.0), [0, 0, 0, 1, 2, 3, 4, 5]),
        (Plan(planned_epochs=8, warmup_epochs=1.5), [0, 0, 1, 2, 3, 4, 5, 6]),  # partly in the warm-up is in it
        (Plan(planned_epochs=8, close_mosaic=3), [0, 1, 2, 3, 4, 4, 4, 4]),
        (Plan(planned_epochs=8, warmup_epochs=3.0, close_mosaic=3), [0, 0, 0, 1, 2, 2, 2, 2]),
        (Plan(planned_epochs=8, close_mosaic=8), [0, 1, 2, 3, 4, 5, 6, 7]),  # closed from the start: nothing changes
        (Plan(planned_epochs=8, close_mosaic=10), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_neither_the_warm_up_nor_the_epochs_after_mosaic_add_to_a_wait(plan, expected):
    assert waits([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], plan) == expected


def test_an_improvement_is_one_in_every_epoch():
    plan = Plan(planned_epochs=8, warmup_epochs=3.0, close_mosaic=2)
    assert waits([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.95, 0.6], plan) == [0, 0, 0, 1, 2, 3, 0, 0]


def test_mosaic_closes_earlier_where_the_end_has_moved():
    plan, fold = Plan(planned_epochs=100, close_mosaic=2), ProgressFold(Monitor.of("fitness"))
    records = [EpochRecord(epoch, {"fitness": 0.5}, planned_epochs=6) for epoch in range(1, 7)]
    assert History(plan, records).fold(fold).wait == 3


@pytest.mark.parametrize(
    ("mode", "delta_mode", "delta", "reference", "value", "improved"),
    [
        ("max", "abs", 0.01, 0.50, 0.505, False),
        ("max", "abs", 0.01, 0.50, 0.511, True),
        ("min", "abs", 0.01, 0.50, 0.495, False),
        ("min", "abs", 0.01, 0.50, 0.489, True),
        ("max", "rel", 0.10, 0.50, 0.54, False),
        ("max", "rel", 0.10, 0.50, 0.56, True),
        ("max", "rel", 0.10, -1.0, -0.95, False),  # a share of the size: not inverted for negative values
        ("max", "rel", 0.10, -1.0, -0.85, True),
        ("min", "rel", 0.10, -1.0, -1.05, False),
        ("min", "rel", 0.10, -1.0, -1.15, True),
    ],
)
def test_min_delta(mode, delta_mode, delta, reference, value, improved):
    monitor = Monitor.of("fitness", mode, min_delta=delta, min_delta_mode=delta_mode)
    assert monitor.improves(value, reference) is improved


def test_many_small_steps_add_up_to_an_improvement():
    monitor = Monitor.of("fitness", min_delta=0.025)
    state = progress([0.10, 0.12, 0.14, 0.16], monitor)
    assert state.wait == 1  # 0.14 beat 0.10 by more than 0.025, 0.16 did not beat 0.14 by it
    assert state.best == 0.16


@given(st.lists(finite, min_size=1))
def test_best_is_the_first_maximum(values):
    state = progress(values)
    assert state.best == max(values)
    assert state.best_epoch == values.index(max(values)) + 1


@given(st.lists(finite, min_size=1), st.floats(0, 10))
def test_min_is_max_of_the_negative(values, delta):
    up = progress(values, Monitor.of("fitness", "max", min_delta=delta))
    down = progress([-v for v in values], Monitor.of("fitness", "min", min_delta=delta))
    assert (up.wait, up.best_epoch) == (down.wait, down.best_epoch)


@given(st.lists(st.one_of(finite, st.just(NAN), st.none())), st.integers(0, 20))
def test_a_fold_that_goes_on_equals_one_from_scratch(values, cut):
    records = [record(i, v) for i, v in enumerate(values, 1)]
    fold = ProgressFold(Monitor.of("fitness"))
    history = History(Plan(), records[:cut])
    history.fold(fold)
    for item in records[cut:]:
        history.append(item)
    assert repr(history.fold(fold)) == repr(History(Plan(), records).fold(fold))


def f2(metrics):
    return 5 * metrics["precision"] * metrics["recall"] / (4 * metrics["precision"] + metrics["recall"])


def test_a_function_sees_short_names():
    monitor = Monitor.of(f2, "max")
    item = EpochRecord(1, {"metrics/precision(B)": 0.5, "metrics/recall(B)": 0.25})
    assert monitor.value(item) == pytest.approx(5 * 0.125 / 2.25)
    assert monitor.name == "f2"


def test_a_function_needs_a_mode():
    with pytest.raises(ValueError, match="mode='auto' cannot know which direction is better for 'f2'"):
        Monitor.of(f2)


def test_a_function_must_return_a_number():
    with pytest.raises(TypeError, match=r"monitor function '<lambda>' returned None, it must return a number"):
        Monitor.of(lambda metrics: None, "max").value(record(1, 0.5))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("fitnes", r"monitor='fitnes' is not the name of a metric \(did you mean 'fitness'\?\)"),
        ("val_los", r"did you mean 'val_loss'\?"),
        ("map50", r"did you mean 'mAP50'\?"),
        ("val/los", r"monitor='val/los' is not the name of a loss \(did you mean 'val_loss'\?\); if your own trainer"),
        ("train/boxloss", r"did you mean 'train/box_loss'\?"),
        ("val/f2", "monitor='val/f2' is not the name of a loss; if your own trainer has it, set mode="),
    ],
)
def test_a_misspelt_metric_fails_at_construction(metric, message):
    with pytest.raises(ValueError, match=message):
        Monitor.of(metric)


def test_a_metric_that_the_run_has_not_is_named_with_what_it_has():
    monitor = Monitor.of("metrics/mAP50-95(M)")
    with pytest.raises(UnknownMetricError, match=r"did you mean 'metrics/mAP50-95\(B\)'.*available: .*mAP50-95"):
        check_known(*monitor.needs, {"metrics/mAP50-95(B)": 0.0})


@pytest.mark.parametrize("metric", [None, 5, ["fitness"]])
def test_a_monitor_of_the_wrong_type(metric):
    with pytest.raises(TypeError, match="must be a metric's name or a function"):
        Monitor.of(metric)


def test_a_misspelt_key_with_an_unknown_direction_gets_its_nearest_match():
    with pytest.raises(ValueError, match=r"for 'metrics/mAP50-59\(B\)' \(did you mean 'mAP50-95'\?\): set mode="):
        Monitor.of("metrics/mAP50-59(B)")


def test_a_value_of_ones_own_among_the_losses_needs_a_mode():
    assert Monitor.of("val/f2", "max").name == "val/f2"


@pytest.mark.parametrize(
    ("metric", "mode", "worst"),
    [
        ("fitness", "auto", True),
        ("metrics/mAP50(B)", "auto", True),
        ("mAP50-95/person", "auto", True),
        ("val_loss", "auto", False),  # nothing could be better
        ("classes/at_zero", "auto", False),
        ("fitness", "min", False),
        ("lr", "max", False),
        (f2, "max", False),  # it may be below 0
    ],
)
def test_a_score_of_0_is_the_worst(metric, mode, worst):
    monitor = Monitor.of(metric, mode)
    assert monitor.is_worst(0.0) is worst
    assert not monitor.is_worst(0.1)


def test_unknown_direction_and_mode():
    with pytest.raises(ValueError, match="cannot know which direction is better for 'lr/pg0'"):
        Monitor.of("lr/pg0")
    with pytest.raises(ValueError, match=r"mode='maximum' is not one of 'auto', 'min', 'max' \(did you mean 'max'\?\)"):
        Monitor.of("fitness", "maximum")
    with pytest.raises(ValueError, match="min_delta_mode='percent' is not one of 'abs', 'rel'"):
        Monitor.of("fitness", min_delta_mode="percent")


@pytest.mark.parametrize(("patience", "planned", "epochs"), [(7, 100, 7), (0.25, 100, 25), (0.1, 5, 1), (0.5, 3, 2)])
def test_patience_in_epochs(patience, planned, epochs):
    assert in_epochs(check_patience(patience), planned) == epochs


@pytest.mark.parametrize("bad", [-1, 1.5, 0.0, 1.0, -0.1, NAN])
def test_patience_out_of_range(bad):
    with pytest.raises(ValueError, match="patience="):
        check_patience(bad)


@pytest.mark.parametrize("bad", ["5", None, True, [3]])
def test_patience_of_the_wrong_type(bad):
    with pytest.raises(TypeError, match="patience="):
        check_patience(bad)


def test_patience_zero_is_refused_because_it_means_two_things():
    with pytest.raises(ValueError, match="'stop at once' to Keras and 'never stop' to Ultralytics"):
        check_patience(0)


@pytest.mark.parametrize("name", ["mAP50-95/person", "worst_class", "gradients/norm"])
def test_what_a_rebuilt_epoch_lacks_was_not_measured(name):
    monitor = Monitor.of(name, "max")
    assert monitor.value(EpochRecord(1, {"fitness": 0.5})) is None
    assert monitor.value(EpochRecord(1, {"fitness": 0.5, name: 0.25})) == 0.25
    with pytest.raises(UnknownMetricError):
        Monitor.of("recall").value(EpochRecord(1, {"fitness": 0.5}))


def test_a_function_of_a_class():
    monitor = Monitor.of(lambda m: m["recall/person"] + m["fitness"], "max")
    rebuilt = EpochRecord(1, {"fitness": 0.5})
    live = EpochRecord(2, {"fitness": 0.5}, measures={"seconds": 1.0})
    assert monitor.value(rebuilt) is None
    assert monitor.value(EpochRecord(2, {"fitness": 0.5, "recall/person": 0.25})) == 0.75
    with pytest.raises(UnknownMetricError, match="PerClassMetrics"):  # a wrong name must not pass unnoticed
        monitor.value(live)
    with pytest.raises(UnknownMetricError):
        Monitor.of(lambda m: m["recall"], "max").value(rebuilt)


def test_the_direction_of_a_class_is_known():
    assert Monitor.of("mAP50-95/person").mode == Monitor.of("worst_class").mode == "max"
    with pytest.raises(ValueError, match="did you mean 'worst_class'"):
        Monitor.of("worst_clas")


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 45), st.floats(0, 45), st.integers(0, 45), st.integers(0, 40))
def test_the_epochs_that_count_are_those_that_add_to_the_wait(planned, close, warmup, start, last):
    plan = Plan(planned_epochs=planned, close_mosaic=close, warmup_epochs=warmup)
    records = (EpochRecord(epoch, {}, planned_epochs=planned) for epoch in range(start + 1, last + 1))
    counted = sum(_counts(record, plan) for record in records)
    fold = ProgressFold(Monitor.of("fitness"), start)
    assert fold.out_of_reach(counted, plan, last) is None
    assert f"at most {counted} " in fold.out_of_reach(counted + 1, plan, last).replace("none ", "at most 0 ")


def test_an_extension_begins_the_wait_anew_and_forgets_the_epochs_before_that_were_not_validated():
    plan = Plan(planned_epochs=30, extensions=(Extension(after=10, planned_epochs=30),))
    fold = ProgressFold(Monitor.of("fitness"))
    state = fold.initial(plan)
    for epoch in range(1, 13):
        validated = epoch <= 6 or epoch > 11
        numbers = {"fitness": 0.5} if validated else {}
        state = fold.step(state, EpochRecord(epoch, numbers, validated=validated, planned_epochs=30))
        if epoch == 10:
            assert state.skipped == 4
    assert (state.wait, state.skipped) == (2, 0)  # epochs 11 and 12


def test_patience_counts_epochs_in_which_a_callbacks_metric_was_not_measured():
    fold = ProgressFold(Monitor.of("test/fitness", "max"))
    state = fold.initial(Plan(planned_epochs=30))
    for epoch in range(1, 12):
        numbers = {"fitness": 0.1, **({"test/fitness": 0.5} if epoch % 5 == 1 else {})}
        state = fold.step(state, EpochRecord(epoch, numbers, planned_epochs=30, measures={"seconds": 1.0}))
    assert state.wait == 10
