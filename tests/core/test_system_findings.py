"""What limits a run, and which memory grows: told once, again if it gets worse, and never where nothing is wrong."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks import EpochRecord, History, Plan
from yolo_callbacks.core.record import record_from_json, record_to_json
from yolo_callbacks.core.system_findings import SystemFold, SystemState

FOLD = SystemFold()
MB = 1 / 1024


def epoch(number, data=0.0, step=10.0, planned=100, seconds=None, **columns):
    """Return an epoch that waits `data` seconds and trains `step` seconds."""
    metrics = {"system/data_seconds": data, "system/step_seconds": step}
    metrics |= {f"system/{name}": value for name, value in columns.items()}
    measures = {} if seconds is None else {"seconds": seconds}
    return EpochRecord(number, metrics, planned_epochs=planned, measures=measures)


def told(records):
    """Return what is told after which epoch."""
    history, lines = History(Plan()), []
    for item in records:
        history.append(item)
        lines += [(item.epoch, f.kind, f.message) for f in history.fold(FOLD).told_in(item.epoch)]
    return lines


def run(*waits, **columns):
    return [epoch(number, data, **columns) for number, data in enumerate(waits, start=1)]


def growing(count, slope, *, start=2.0, name="rss_gb", planned=100):
    return [epoch(number, planned=planned, **{name: start + slope * number}) for number in range(1, count + 1)]


# ---------------------------------------------------------------------------------------------------- time


def test_waiting_for_data_is_told_once_after_a_few_epochs_with_the_evidence():
    assert told(run(*[16.0] * 9)) == [
        (
            4,
            "data",
            "62 % of the training time went into waiting for data (16.0 of 26.0 s per epoch): cache=disk or cache=ram, "
            "or a faster disk",
        )
    ]


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        ({}, "cache=disk or cache=ram, or a faster disk"),  # Ultralytics itself sets workers=0 on a CPU
        ({"gpu_allocated_gb": 1.0}, "workers= above 0, cache=disk or cache=ram, or a faster disk"),
        ({"workers_rss_gb": 1.0}, "more workers=, cache=disk or cache=ram, or a faster disk"),
    ],
)
def test_the_advice_fits_the_run(columns, advice):
    ((_, _, message),) = told(run(*[16.0] * 4, **columns))
    assert message.endswith(f": {advice}")


def test_it_is_told_again_only_if_it_gets_worse():
    levels = [5.0] * 6 + [1.0] * 8 + [5.0] * 8 + [30.0] * 8 + [29.0] * 8
    assert [(number, message[:2]) for number, _, message in told(run(*levels))] == [(4, "33"), (25, "75")]


@pytest.mark.parametrize(
    "waits",
    [
        [2.0] * 20,  # a sixth of the time
        [90.0] + [0.1] * 20,  # only the first epoch, which starts the workers
        [0.1, 0.1, 0.1, 90.0, 90.0, 0.1, 0.1, 0.1, 0.1],  # two epochs in which a disk was slow
    ],
)
def test_nothing_is_told_where_nothing_is_wrong(waits):
    assert told(run(*waits)) == []


def test_what_takes_a_moment_is_not_worth_a_word():
    assert told([epoch(number, 0.4, 0.1) for number in range(1, 20)]) == []


def test_waiting_is_not_worth_a_word_where_training_is_a_small_part_of_the_epoch():
    assert told(run(*[8.0] * 9, seconds=100.0)) == []
    assert [kind for _, kind, _ in told(run(*[8.0] * 9, seconds=50.0))] == ["data"]


def test_long_validations_and_slow_saves_are_told():
    found = told([epoch(number, validation_seconds=20.0, save_seconds=15.0) for number in range(1, 9)])
    assert [(number, kind, message.partition(":")[0]) for number, kind, message in found] == [
        (4, "save", "33 % of the time went into saving checkpoints (15.0 of 45.0 s per epoch)")
    ]
    found = told([epoch(number, validation_seconds=30.0) for number in range(1, 9)])
    assert [(number, kind, message.partition(":")[0]) for number, kind, message in found] == [
        (4, "validation", "75 % of the time went into validation (30.0 of 40.0 s per epoch)")
    ]


def test_a_validation_now_and_then_is_no_limit():
    records = [epoch(n, **({"validation_seconds": 90.0} if n % 5 == 0 else {})) for n in range(1, 31)]
    assert told(records) == []


@pytest.mark.parametrize(
    ("data", "use", "kinds"), [(0.1, 0.3, ["gpu"]), (0.1, 0.9, []), (20.0, 0.3, ["data"]), (0.1, math.nan, [])]
)
def test_a_gpu_that_idles_is_told_if_data_is_not_the_cause(data, use, kinds):
    assert [kind for _, kind, _ in told(run(*[data] * 9, gpu_utilization=use))] == kinds


# ---------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("rss_gb", "the memory of the training process grows by 10 MB per epoch"),
        ("workers_rss_gb", "the memory of the data loader's workers grows by 10 MB per epoch"),
        ("gpu_allocated_gb", "the GPU memory in use at the end of an epoch grows by 10 MB per epoch"),
    ],
)
def test_a_memory_that_grows_is_told_once_with_its_slope(name, what):
    ((number, kind, message),) = told(growing(60, 10 * MB, name=name))
    assert (number, kind) == (24, f"system/{name}")  # 4 epochs of the start, 20 of evidence
    evidence = "(99 % interval 10 to 10, epochs 5 to 24), 2.98 GB by epoch 100 at this rate: "
    assert message.startswith(f"{what} {evidence}")


def test_a_growth_that_does_not_matter_by_the_end_of_the_run_is_not_told():
    assert told(growing(50, MB, planned=60)) == []
    assert len(told(growing(50, MB, planned=600))) == 1


def test_a_growth_that_gets_much_faster_is_told_again():
    slow = growing(30, 10 * MB)
    fast = [epoch(number, rss_gb=2.3 + 50 * MB * (number - 30)) for number in range(31, 80)]
    assert [number for number, _, _ in told(slow)] == [24]
    assert len(told(slow + fast)) == 2


@pytest.mark.parametrize(
    "memory",
    [
        lambda n: 2.0,
        lambda n: 2.0 + (n > 30),  # a second data set, another image size
        lambda n: 3.0 - 1.0 / n,  # a start
        lambda n: 2.0 + 0.1 * (n % 7),
        lambda n: 1.0 + 0.02 * min(n, 5),
    ],
)
def test_no_growth_is_told_where_there_is_none(memory):
    for name in ("rss_gb", "workers_rss_gb", "gpu_allocated_gb"):
        assert told([epoch(n, **{name: memory(n)}) for n in range(1, 80)]) == []


def test_a_resumed_process_starts_anew():
    """Two processes that grow for 15 epochs each are no evidence: each may still be starting."""
    once = [2.0 + 10 * MB * number for number in range(15)]
    assert told([epoch(n, rss_gb=value) for n, value in enumerate([*once, *(v - 0.5 for v in once)], 1)]) == []


# ---------------------------------------------------------------------------------------------------- purity

numbers = st.one_of(st.floats(0, 1e6), st.just(math.nan), st.just(math.inf))
records = st.lists(
    st.dictionaries(
        st.sampled_from(
            [f"{part}_seconds" for part in ("data", "step", "validation", "save")]
            + ["gpu_utilization", "rss_gb", "workers_rss_gb", "gpu_allocated_gb"]
        ),
        numbers,
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(records)
def test_a_history_read_back_says_what_the_live_one_said(metrics):
    """Whatever was measured, a fold over the journal gives what was told live, and never fails."""
    named = [{f"system/{name}": value for name, value in numbers.items()} for numbers in metrics]
    live = [EpochRecord(epoch, numbers, planned_epochs=50) for epoch, numbers in enumerate(named, start=1)]
    stored = [record_from_json(json.loads(json.dumps(record_to_json(record)))) for record in live]
    assert told(stored) == told(live)
    assert repr(History(Plan(), live).fold(FOLD)) == repr(History(Plan(), stored).fold(SystemFold()))
    for finding in History(Plan(), live).fold(FOLD).findings.values():
        assert "\n" not in finding.message
        assert finding.message


def test_a_run_without_measurements_has_no_findings():
    history = History(Plan(), [EpochRecord(n, {"fitness": 0.1}) for n in range(1, 60)])
    assert history.fold(FOLD) == SystemState()
