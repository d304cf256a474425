import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks import UnknownMetricError
from yolo_callbacks.core.classes import Classes, ClassResults, distinct

BOXES = ("precision", "recall", "mAP50", "mAP50-95")
NAMES = ("person", "car", "stop_sign", "yield_sign", "a/b, c")
DETECT = Classes(NAMES, BOXES, "mAP50-95", frozenset({0, 2, 3}))
SEGMENT = Classes(NAMES, tuple(n + h for h in ("(B)", "(M)") for n in BOXES), "mAP50-95(M)")
DEPTH = Classes(without="a depth model has no classes")
names = st.lists(st.one_of(st.text(max_size=5), st.sampled_from(["", "a", "a#0", "a#1", " a", "a\n", None, 3])))


@given(names)
def test_names_are_made_distinct_and_fit_a_line(given_names):
    made = distinct(given_names)
    assert len(made) == len(given_names) == len(set(made))
    for name in made:
        assert name
        assert name.splitlines() == [name]
        assert "\0" not in name
        name.encode()


def test_names_that_are_distinct_stay_as_they_are():
    assert distinct(NAMES) == NAMES
    assert distinct(["car", "car", "car#1"]) == ("car#0", "car#1#", "car#1")
    assert distinct(["\udc80"]) == ("?",)


@pytest.mark.parametrize(
    ("classes", "name", "key"),
    [
        (DETECT, "mAP50-95/person", "mAP50-95/person"),
        (DETECT, "mAP50-95(B)/person", "mAP50-95/person"),
        (DETECT, "recall/a/b, c", "recall/a/b, c"),
        (SEGMENT, "mAP50/car", "mAP50(M)/car"),
        (SEGMENT, "mAP50(B)/car", "mAP50(B)/car"),
        (SEGMENT, "worst_class", "worst_class"),
        (DETECT, "mAP50-95(M)/person", None),
        (DETECT, "mIoU/person", None),
        (DETECT, "mAP50-95/persn", None),
        (DETECT, "fitness", None),
        (DETECT, "val/box_loss", None),
        (DEPTH, "worst_class", None),
    ],
)
def test_names_find_their_keys(classes, name, key):
    assert classes.keys([name]) == ((key,) if key else ())


@pytest.mark.parametrize(
    ("classes", "name", "said"),
    [
        (DETECT, "mAP50-95/persn", r"no class 'persn' \(did you mean 'person'\?\); it has 'person', 'car', .*'a/b, c'"),
        (DETECT, "mAP50-95/car", "no 'car' occurs in the validation set, only 'person', 'stop_sign', 'yield_sign'"),
        (DETECT, "mIoU/car", "this run has no mIoU per class; it has precision, recall, mAP50, mAP50-95"),
        (SEGMENT, "mAP50(P)/car", r"this run has no mAP50\(P\) per class \(did you mean 'mAP50\(.\)'\?\)"),
        (DEPTH, "worst_class", "'worst_class' is not available in this run: a depth model has no classes"),
        (DEPTH, "mAP50/person", "a depth model has no classes"),
    ],
)
def test_what_is_said_of_what_will_not_be_measured(classes, name, said):
    import re

    assert re.search(said, classes.problem(name))


def test_where_there_is_no_problem():
    for name in ("mAP50-95/person", "worst_class", "recall/stop_sign"):
        assert DETECT.problem(name) is None
    assert SEGMENT.problem("mAP50/car") is None  # which classes occur is not known: the first validation will tell
    assert DETECT.problem("precision/of a user", known={"precision/of a user"}) is None  # a callback's own number


def test_a_message_names_few_of_many_classes():
    many = Classes(tuple(f"class {i}" for i in range(1200)), BOXES, "mAP50-95", frozenset(range(1000)))
    assert len(many.problem("recall/clas 7")) < 250
    assert "and 1192 more" in many.problem("recall/nothing")
    assert "and 992 more" in many.problem("recall/class 1100")


def test_classes_are_selected_by_name_and_pattern():
    assert DETECT.select(["*_sign", "person"]) == ("person", "stop_sign", "yield_sign")
    assert Classes(("[a]", "a"), BOXES, "mAP50-95").select(["[a]"]) == ("[a]",)  # a name first, then a pattern
    with pytest.raises(UnknownMetricError, match=r"no class 'persons' \(did you mean 'person'\?\)"):
        DETECT.select(["car", "persons"])


def results(values):
    classes = Classes(distinct(range(len(values))), ("mAP50-95",), "mAP50-95")
    return ClassResults(classes, {"mAP50-95": values})


@given(st.lists(st.one_of(st.none(), st.integers(0, 100000).map(lambda n: n / 100000)), min_size=1))
def test_classes_that_do_not_occur_count_for_nothing(values):
    made = results(values)
    keys = [*(f"mAP50-95/{i}" for i in range(len(values))), "worst_class", "classes/median", "classes/at_zero"]
    numbers, there = made.numbers(keys), [value for value in values if value is not None]
    assert {key for key in numbers if key.startswith("mAP")} == {
        f"mAP50-95/{i}" for i, value in enumerate(values) if value is not None
    }
    if not there:
        assert not numbers
        return
    assert numbers["worst_class"] == min(there)
    assert numbers["classes/median"] == pytest.approx(statistics.median(there), abs=1e-5)
    assert numbers["classes/at_zero"] == there.count(0)
    assert min(there) <= made.summaries["classes/p10"] <= numbers["classes/median"]


def test_the_summaries_are_of_the_head_that_the_task_is_named_after():
    values = {name: [0.9 if "(B)" in name else 0.1, None, 0.5, None, None] for name in SEGMENT.metrics}
    assert ClassResults(SEGMENT, values).numbers(["worst_class", "mAP50(B)/person"]) == {
        "worst_class": 0.1,
        "mAP50(B)/person": 0.9,
    }
