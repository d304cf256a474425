"""When PlotLogger has its picture drawn; what is in it is tested in tests/pictures/test_curves.py."""

from types import SimpleNamespace

import pytest

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks import PlotLogger
from yolo_callbacks.pictures import drawing


class Pictures:
    """Stands in for the processes that draw, and for the clock."""

    def __init__(self, monkeypatch):
        self.drawn, self.now, self.takes = [], 1000.0, 0.0
        monkeypatch.setattr(drawing, "draw_in_process", self._draw)
        monkeypatch.setattr(drawing, "time", SimpleNamespace(monotonic=lambda: self.now))

    def _draw(self, module, source, picture, arguments):
        self.now += self.takes
        self.drawn.append((module, source, picture, tuple(arguments)))

    def of(self, session):
        """Wait for what is being drawn; return how many pictures there were since the last call."""
        session.files.background("plots").wait()
        drawn, self.drawn = self.drawn, []
        return len(drawn)


@pytest.fixture
def pictures(monkeypatch):
    return Pictures(monkeypatch)


def begun(callback):
    session = SessionStub(callback)
    session.begin()
    return session


def test_the_curves_are_drawn_of_the_journal(pictures):
    session = begun(PlotLogger("mine.png"))
    session.epoch(0.5)
    session.files.background("plots").wait()
    folder = session.run.callbacks_dir
    assert pictures.drawn == [("pictures.curves", folder / "journal.jsonl", folder / "mine.png", ())]


def test_the_first_epoch_has_a_picture_and_the_next_one_when_that_is_old_enough(pictures):
    session = begun(PlotLogger(refresh_seconds=30))
    counts = []
    for seconds in (0, 29, 0.5, 0.5, 29, 1, 100):
        pictures.now += seconds
        session.epoch(0.5)
        counts.append(pictures.of(session))
    assert counts == [1, 0, 0, 1, 0, 1, 1]


def test_every_epoch_has_one_with_0_seconds_however_long_it_takes(pictures):
    pictures.takes = 10.0
    session = begun(PlotLogger(refresh_seconds=0))
    for _ in range(3):
        session.epoch(0.5)
        assert pictures.of(session) == 1


def test_pictures_that_take_long_are_drawn_less_often(pictures):
    """No more than a tenth of the time, in a run of any length."""
    pictures.takes = 10.0
    session = begun(PlotLogger(refresh_seconds=30))
    counts = []
    for seconds in (0, 30, 89, 1):
        pictures.now += seconds
        session.epoch(0.5)
        counts.append(pictures.of(session))
    assert counts == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("error", "drawn"), [(None, 1), (ValueError("a mistake"), 1), (SystemExit(143), 1), (KeyboardInterrupt(), 0)]
)
def test_the_last_picture_is_drawn_at_the_end_but_not_after_ctrl_c(error, drawn, pictures):
    session = begun(PlotLogger())
    session.epoch(0.5)
    pictures.of(session)
    session.epoch(0.6)
    assert pictures.of(session) == 0
    session.end(error)
    assert pictures.of(session) == drawn


def test_nothing_is_drawn_of_a_run_without_an_epoch(pictures):
    session = begun(PlotLogger())
    session.end()
    assert pictures.of(session) == 0


def test_each_run_of_a_callback_begins_with_a_picture(pictures):
    callback = PlotLogger()
    for _ in range(2):
        session = begun(callback)
        session.epoch(0.5)
        assert pictures.of(session) == 1


def test_the_file_that_it_writes():
    assert PlotLogger("mine.png").outputs() == ("callbacks/mine.png",)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"filename": 3}, TypeError, "filename=3 must be a file name such as 'name.png', not int"),
        ({"filename": "curves.jpg"}, ValueError, "filename='curves.jpg' must be a bare file name that ends in '.png'"),
        ({"filename": "a/curves.png"}, ValueError, "filename='a/curves.png' must be a bare file name"),
        ({"refresh_seconds": -1}, ValueError, "refresh_seconds=-1 must be a finite number >= 0"),
        ({"refresh_seconds": float("inf")}, ValueError, "refresh_seconds=inf must be a finite number >= 0"),
        ({"refresh_seconds": "30"}, TypeError, "refresh_seconds='30' must be a number >= 0, not str"),
        ({"refresh_seconds": None}, TypeError, "refresh_seconds=None must be a number >= 0, not None"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        PlotLogger(**arguments)
    assert message in str(caught.value)
