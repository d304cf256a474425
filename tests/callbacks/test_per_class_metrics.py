"""PerClassMetrics over validations that are made up; tests/e2e/test_per_class.py has the trainer's own."""

import csv

import pytest

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks import PerClassMetrics, UnknownMetricError
from yolo_callbacks.core.classes import Classes, ClassResults
from yolo_callbacks.pictures import drawing

METRICS = ("precision", "recall", "mAP50", "mAP50-95")
SUMMARIES = ["worst_class", "classes/p10", "classes/median", "classes/at_zero"]


def classes_of(names=("car", "bus", "stop_sign"), metrics=METRICS, **fields):
    return Classes(tuple(names), metrics, metrics[-1] if metrics else "", **fields)


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The pictures that are asked for, instead of the processes that draw them."""
    asked = []
    monkeypatch.setattr(drawing, "draw_in_process", lambda *arguments: asked.append(arguments))
    return asked


class Run:
    """A callback in a run with these classes."""

    def __init__(self, callback, classes=None):
        self.callback, self.session = callback, SessionStub(callback)
        self.classes = self.session.run._classes = classes or classes_of()
        self.results = None
        self.session.run.class_results = lambda: self.results

    def begin(self):
        self.session.begin()
        return self

    def names(self):
        return [name for name in self.callback.measures(self.session) if name not in SUMMARIES]

    def epoch(self, *values):
        """Let an epoch's validation say these main metrics of the classes; nothing if it was not validated."""
        columns = {metric: [None if v is None else 1.0 for v in values] for metric in self.classes.metrics}
        columns[self.classes.main] = list(values)
        counts = [0 if value is None else 3 for value in values]
        self.results = ClassResults(self.classes, columns, counts) if values else None
        self.session.run.trainer.epoch = self.session.history.epoch
        measured = dict(self.callback.measure(self.session))
        self.session.epoch(0.5 if values else None)
        return measured

    def table(self, name="classes.csv"):
        with open(self.session.run.callbacks_dir / name, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))


# ---------------------------------------------------------------------------------------------- columns


def test_every_metric_of_every_class_has_a_column_and_the_summaries_come_first():
    run = Run(PerClassMetrics())
    assert list(run.callback.measures(run.session))[:4] == SUMMARIES
    assert run.names() == [f"{metric}/{name}" for metric in METRICS for name in ("car", "bus", "stop_sign")]


@pytest.mark.parametrize(
    ("most", "columns"),
    [
        (12, [f"{metric}/{name}" for metric in METRICS for name in ("car", "bus", "stop_sign")]),
        (11, ["mAP50-95/car", "mAP50-95/bus", "mAP50-95/stop_sign"]),
        (3, ["mAP50-95/car", "mAP50-95/bus", "mAP50-95/stop_sign"]),
        (2, []),
        (0, []),
    ],
)
def test_where_all_would_be_too_many_there_is_the_main_metric_and_then_none(most, columns):
    assert Run(PerClassMetrics(max_columns=most)).names() == columns


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        ({"classes": "bus"}, [f"{metric}/bus" for metric in METRICS]),
        ({"classes": ["*_sign", "car"], "metrics": "recall"}, ["recall/car", "recall/stop_sign"]),
        ({"classes": ["*"], "max_columns": 0, "metrics": ["mAP50"]}, ["mAP50/car", "mAP50/bus", "mAP50/stop_sign"]),
        ({"metrics": ["recall", "precision", "recall"], "classes": "car"}, ["recall/car", "precision/car"]),
    ],
)
def test_classes_and_metrics_that_are_asked_for_have_columns_whatever_their_number(arguments, columns):
    assert Run(PerClassMetrics(**arguments)).names() == columns


def test_a_metric_of_two_heads_is_meant_by_its_short_name_too():
    two = classes_of(["car"], ("recall(B)", "mAP50-95(B)", "recall(M)", "mAP50-95(M)"))
    assert Run(PerClassMetrics(metrics=["recall(B)"]), two).names() == ["recall(B)/car"]
    assert Run(PerClassMetrics(metrics=["recall"]), two).names() == ["recall(M)/car"]


@pytest.mark.parametrize(
    ("arguments", "classes", "message"),
    [
        (
            {"classes": ["car", "buss"]},
            {},
            r"PerClassMetrics: this run has no class 'buss' \(did you mean 'bus'\?\); it ",
        ),
        ({"classes": "*.sign"}, {}, r"PerClassMetrics: this run has no class '\*\.sign'.*; it has 'car', 'bus', "),
        ({"metrics": ["top1"]}, {}, "PerClassMetrics: this run has no top1 per class; it has precision, recall, "),
        ({}, {"metrics": (), "without": "it measures distances"}, "nothing to measure by class: it measures distances"),
    ],
)
def test_what_the_run_has_not(arguments, classes, message):
    run = Run(PerClassMetrics(**arguments), classes_of(**classes))
    with pytest.raises(UnknownMetricError, match=message):
        run.names()


# ---------------------------------------------------------------------------------------------- epochs


def test_what_a_validation_says_is_measured_and_written_for_every_class():
    run = Run(PerClassMetrics(classes="car")).begin()
    measured = run.epoch(0.5, 0.25, 0.0)
    assert measured["mAP50-95/car"] == 0.5
    assert (measured["worst_class"], measured["classes/at_zero"]) == (0.0, 1.0)
    assert "mAP50-95/bus" not in measured
    header, *rows = run.table()
    assert header == ["epoch", "class", "instances", *METRICS]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("1", "car", "0.5"),
        ("1", "bus", "0.25"),
        ("1", "stop_sign", "0.0"),
    ]


def test_a_class_that_does_not_occur_has_no_number():
    run = Run(PerClassMetrics()).begin()
    measured = run.epoch(0.5, None, 0.25)
    assert measured["worst_class"] == 0.25
    assert not [name for name in measured if name.endswith("/bus")]
    assert run.table()[2] == ["1", "bus", "0", "", "", "", ""]


def test_an_epoch_that_was_not_validated_has_none(drawn):
    run = Run(PerClassMetrics(refresh_seconds=0)).begin()
    assert run.epoch() == {}
    run.epoch(0.5, 0.5, 0.5)
    run.session.files.wait()
    folder = run.session.run.callbacks_dir
    assert [arguments[1].parent for arguments in drawn].count(folder) == 1
    assert run.epoch() == {}
    run.session.files.wait()
    assert [arguments[1].parent for arguments in drawn].count(folder) == 1  # nothing new is to be seen
    assert [row[0] for row in run.table()[1:]] == ["2"] * 3


def test_a_second_run_begins_anew(drawn):
    callback = PerClassMetrics()
    first = Run(callback).begin()
    first.epoch(0.5, 0.5, 0.5)
    second = Run(callback).begin()
    second.session.end()
    first.session.files.wait()
    assert [row[0] for row in second.table()] == ["epoch"]
    tables = [run.session.run.callbacks_dir / "classes.csv" for run in (first, second)]
    assert [arguments[1] for arguments in drawn if arguments[1] in tables] == tables[:1]


# ---------------------------------------------------------------------------------------------- the picture


def pictures(drawn, run):
    run.session.files.wait()
    return [(picture.name, tuple(only)) for _, _, picture, only in drawn]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ("classes.png", ())),
        ({"classes": ["*_sign", "car"], "heatmap": "few.png"}, ("few.png", ("car", "stop_sign"))),
    ],
)
def test_the_picture_shows_the_classes_that_are_asked_for(arguments, expected, drawn):
    run = Run(PerClassMetrics(**arguments)).begin()
    run.epoch(0.5, 0.5, 0.5)
    assert pictures(drawn, run) == [expected]


@pytest.mark.parametrize(("number", "named"), [(100, 100), (101, 0)])
def test_of_too_many_it_chooses_itself(number, named, drawn):
    run = Run(PerClassMetrics(classes="*"), classes_of(map(str, range(number)))).begin()
    run.epoch(*[0.5] * number)
    ((_, only),) = pictures(drawn, run)
    assert len(only) == named


@pytest.mark.parametrize(("error", "number"), [(None, 2), (ValueError(), 2), (KeyboardInterrupt(), 1)])
def test_the_last_picture_is_drawn_at_the_end_but_not_after_ctrl_c(error, number, drawn):
    run = Run(PerClassMetrics()).begin()
    run.epoch(0.5, 0.5, 0.5)
    run.epoch(0.6, 0.5, 0.5)  # too soon for another one
    assert len(pictures(drawn, run)) == 1
    run.session.end(error)
    assert len(pictures(drawn, run)) == number


def test_no_picture_where_none_is_wanted(drawn):
    run = Run(PerClassMetrics(heatmap=None)).begin()
    run.epoch(0.5, 0.5, 0.5)
    run.session.end()
    assert pictures(drawn, run) == []


# ---------------------------------------------------------------------------------------------- arguments


def test_the_files_that_it_writes():
    assert PerClassMetrics().outputs() == ("callbacks/classes.csv", "callbacks/classes.png")
    assert PerClassMetrics(filename="a.csv", heatmap=None).outputs() == ("callbacks/a.csv",)


def test_what_it_was_built_with_is_kept_as_lists():
    given = {"max_columns": 3, "filename": "a.csv", "heatmap": None, "refresh_seconds": 5.0}
    built = PerClassMetrics("car", ("recall", "top1(B)"), **given)
    assert built.get_config() == {"classes": ["car"], "metrics": ["recall", "top1(B)"], **given}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"classes": 3}, TypeError, "classes=3 must be a list of names such as 'person' or '*_sign'"),
        ({"classes": ["car", 3]}, TypeError, "classes=['car', 3] must be a list of names"),
        ({"classes": []}, ValueError, "classes=[] names nothing: leave it out for all"),
        ({"metrics": "recal"}, ValueError, "metrics='recal' is not one of"),
        ({"metrics": ["recal"]}, ValueError, "did you mean 'recall'?"),
        ({"metrics": [1]}, TypeError, "metrics=[1] must be a list of names such as 'mAP50-95'"),
        ({"max_columns": -1}, ValueError, "max_columns=-1 must be >= 0"),
        ({"filename": "a.txt"}, ValueError, "filename='a.txt' must be a bare file name that ends in '.csv'"),
        ({"heatmap": "a/b.png"}, ValueError, "heatmap='a/b.png' must be a bare file name that ends in '.png'"),
        ({"heatmap": True}, TypeError, "heatmap=True must be a file name such as 'name.png', not bool"),
        ({"refresh_seconds": -1}, ValueError, "refresh_seconds=-1 must be a finite number >= 0"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        PerClassMetrics(**arguments)
    assert message in str(caught.value)
