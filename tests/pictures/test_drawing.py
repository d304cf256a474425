"""When a plot is drawn again, in a process of its own, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from yolo_callbacks.pictures import drawing
from yolo_callbacks.pictures.drawing import (
    Drawing,
    draw_in_process,
    render_from_command_line,
    show_text_literally,
)
from yolo_callbacks.support import python_process


class Desk:
    """A clock, a queue of plots and a session that has it; a plot takes as long as it is told to."""

    def __init__(self, monkeypatch):
        self.now, self.takes, self.error = 1000.0, 0.0, None
        self.queue, self.drawn = [], []
        monkeypatch.setattr(drawing, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(drawing, "draw_in_process", self._draw)
        background = SimpleNamespace(submit=lambda name, task: self.queue.append((name, task)))
        self.session = SimpleNamespace(files=SimpleNamespace(background=lambda name: {"plots": background}[name]))

    def _draw(self, *arguments):
        self.now += self.takes
        self.drawn.append(arguments)
        if self.error is not None:
            raise self.error

    def draw(self, plot, *arguments):
        plot.draw(self.session, Path("in"), Path("run/out.png"), *arguments)
        name, task = self.queue.pop()
        assert name == "out.png"  # the same each time, so that a waiting one is replaced
        task()


@pytest.fixture
def desk(monkeypatch):
    return Desk(monkeypatch)


def test_nothing_is_drawn_by_the_thread_that_asks(desk):
    plot = Drawing("pictures.curves", 5)
    plot.draw(desk.session, Path("in"), Path("run/out.png"), ["a"])
    assert desk.drawn == []
    desk.queue.pop()[1]()
    assert desk.drawn == [("pictures.curves", Path("in"), Path("run/out.png"), ["a"])]


@pytest.mark.parametrize(
    ("refresh", "took", "pause"),
    [
        (5, 0.0, 5),
        (5, 0.5, 5),
        (5, 2.0, 20),  # a tenth of the time at most
        (0, 2.0, 0),  # the user wants every one
    ],
)
def test_the_pause_after_a_plot(refresh, took, pause, desk):
    plot = Drawing("pictures.curves", refresh)
    assert plot.is_due
    desk.takes = took
    desk.draw(plot)  # how long one takes is known afterwards
    desk.takes = 0.0
    desk.draw(plot)
    assert plot.is_due is (pause == 0)
    desk.now += pause - 0.01 if pause else 0
    assert plot.is_due is (pause == 0)
    desk.now += 0.02
    assert plot.is_due


def test_a_plot_that_fails_counts_for_as_long_as_it_took(desk):
    plot = Drawing("pictures.curves", 1)
    desk.takes, desk.error = 6.0, RuntimeError("no font")
    with pytest.raises(RuntimeError, match="no font"):
        desk.draw(plot)
    plot.draw(desk.session, Path("in"), Path("run/out.png"))
    desk.now += 59
    assert not plot.is_due
    desk.now += 2
    assert plot.is_due


def test_a_new_run_begins_with_a_plot(desk):
    plot = Drawing("pictures.curves", 1000)
    desk.draw(plot)
    assert not plot.is_due
    plot.restart()
    assert plot.is_due


# ------------------------------------------------------------------------------------------------- the process


@pytest.fixture
def program(monkeypatch):
    """Have a short program run in place of the module; it is called with the module and the arguments."""

    def set_program(text):
        monkeypatch.setattr(python_process, "command", lambda *words: [sys.executable, "-S", "-c", text, *words])

    return set_program


def test_a_process_gets_its_arguments_and_is_apart(program, tmp_path):
    program(
        "import os, sys\n"
        "print('\\u4eba', file=sys.stderr)\n"
        "apart = getattr(os, 'getpgid', lambda _: os.getpid())(0) == os.getpid()\n"
        "open(sys.argv[3], 'w').write(repr((sys.argv[1:], sys.stdin.read(), apart)))"
    )
    source, picture = tmp_path / "a b", tmp_path / "out.png"
    draw_in_process("pictures.curves", source, picture, ["x", "$y"])
    told = repr((["pictures.curves", str(source), str(picture), "x", "$y"], "", True))
    assert picture.read_text() == told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys; print('a line', file=sys.stderr); sys.exit('ValueError: \u4eba')", "^ValueError: \u4eba$"),
        ("import sys; sys.stderr.buffer.write(b'bad \\xff\\n'); sys.exit(1)", "^bad \ufffd$"),
        ("import sys; sys.exit(3)", "^exit code 3$"),
    ],
)
def test_a_process_that_fails_says_why_in_one_line(text, why, program, tmp_path):
    program(text)
    with pytest.raises(RuntimeError, match=why):
        draw_in_process("pictures.curves", tmp_path, tmp_path)


def test_a_process_that_hangs_is_ended(program, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "_TIMEOUT", 0.2)
    program("import time; time.sleep(600)")
    with pytest.raises(subprocess.TimeoutExpired):
        draw_in_process("pictures.curves", tmp_path, tmp_path)


@pytest.mark.parametrize("error", [None, OSError("not permitted")])
def test_the_process_renders_at_low_priority_if_it_can(error, monkeypatch):
    nice, rendered = [], []

    def lower(by):
        nice.append(by)
        if error is not None:
            raise error

    monkeypatch.setattr(os, "nice", lower, raising=False)
    monkeypatch.setattr(sys, "argv", ["curves.py", "in", "out.png", "a", "b"])
    render_from_command_line(lambda *arguments: rendered.append(arguments))
    assert nice == [10]
    assert rendered == [(Path("in"), Path("out.png"), "a", "b")]


# ------------------------------------------------------------------------------------------------- texts


def test_no_text_of_a_run_is_a_formula_or_stops_the_picture(tmp_path):
    odd = "$x_{1}$ \udcff"
    figure = Figure()
    figure.suptitle(odd)
    axes, plain = figure.subplots(1, 2)
    axes.plot([1, 2], label=odd)
    axes.legend()
    axes.set(title=odd, xlabel=odd, ylabel=odd, yscale="log")
    axes.text(0, 0, odd)
    plain.plot([1, 2])  # without a legend
    show_text_literally(figure)
    shown = [*figure.texts, axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *axes.get_legend().texts]
    assert [text.get_text() for text in shown] == ["$x_{1}$ ?"] * 6
    assert not any(text.get_parse_math() for text in shown)
    figure.savefig(tmp_path / "out.png")
    assert all(label.get_parse_math() for label in axes.get_yticklabels())  # 10^0 is written by matplotlib itself
