"""What is lent to a trainer's metrics goes again, whatever others do meanwhile."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.trainer.patches.published_metrics import PublishedMetrics

NAMES = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.dictionaries(NAMES, st.floats(allow_nan=False))


@given(NUMBERS, st.lists(NUMBERS), st.booleans())
def test_taking_back_restores_the_dict(metrics, lent, replaced):
    trainer, before = SimpleNamespace(metrics=metrics), dict(metrics)
    published = PublishedMetrics(trainer)
    for values in lent:
        taken = published.add(values)
        assert set(taken) <= set(values)
        assert set(values) <= set(trainer.metrics)
    assert before.items() <= trainer.metrics.items()
    if replaced:
        trainer.metrics = {**trainer.metrics}
    published.remove()
    assert list(trainer.metrics.items()) == list(before.items())  # the order too: it is that of the columns
    assert metrics == before
    published.remove()
    assert metrics == before


@given(NUMBERS, NUMBERS)
def test_it_is_out_of_the_way_for_a_moment(metrics, values):
    trainer, before = SimpleNamespace(metrics=metrics), dict(metrics)
    published = PublishedMetrics(trainer)
    published.add(values)
    with published.hidden():
        assert trainer.metrics == before
    assert trainer.metrics == {**values, **before}
    published.remove()
    assert trainer.metrics == before


def test_what_others_change_stays_changed():
    trainer = SimpleNamespace(metrics={"recall": 0.5, "precision": 0.5})
    published = PublishedMetrics(trainer)
    published.add({"ours": 1.0})
    trainer.metrics["recall"] = 0.25
    trainer.metrics["theirs"] = 2.0
    trainer.metrics["ours"] = 3.0
    del trainer.metrics["precision"]
    published.remove()
    assert trainer.metrics == {"recall": 0.25, "theirs": 2.0}


def test_metrics_that_are_none_any_more_do_no_harm():
    trainer = SimpleNamespace(metrics={})
    published = PublishedMetrics(trainer)
    published.add({"ours": 1.0})
    trainer.metrics = None
    published.remove()
    assert trainer.metrics is None
