"""When the whole state of a training is saved, when it is put back, and what is said where it cannot be."""

import threading
from types import SimpleNamespace

import pytest

from tests.helpers import record
from yolo_callbacks import Callback, History, Plan, Stop
from yolo_callbacks.run_dir.training_states import TrainingStates
from yolo_callbacks.session import exact_resume as module
from yolo_callbacks.session.exact_resume import ExactResume


class Every(Callback):
    """Asks for the state of every Nth epoch."""

    def __init__(self, epochs):
        self.epochs = epochs

    @property
    def state_every_n_epochs(self):
        return self.epochs


class State:
    """The state of a training, and what was done with it."""

    def __init__(self):
        self.problems, self.done, self.nan, self.failure = [], [], False, None

    def obstacles(self):
        if isinstance(self.problems, Exception):
            raise self.problems
        return self.problems

    def look_at_data(self):
        self.done.append("looked at the data")

    def begin_epoch(self, before_workers):
        before_workers()
        self.done.append("begun")

    def restore(self, state):
        self.done.append(("restored", state))

    def has_nan(self):
        return self.nan

    def conditions(self):
        return {"workers": 2}


class Running(SimpleNamespace):
    """What there is of a run."""

    def __init__(self, folder, **fields):
        self.training_state, self.state = State(), {"weight": 1.0}
        super().__init__(save_dir=folder, world_size=1, is_main=True, resumed=False, epoch=0, planned_epochs=6)
        vars(self).update(fields)

    def capture_state(self):
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def resume_exactly(self, epoch, state):
        self.training_state.done.append(("resumed", epoch, state))


@pytest.fixture
def run(tmp_path):
    return Running(tmp_path)


def begun(run, *every):
    exact = ExactResume(run)
    exact.begin([Every(number) for number in every or (1,)])
    return exact


def epoch(exact, number, decisions=()):
    """Go through an epoch; return the epochs whose states are on disk then."""
    run = exact._run
    exact.begin_epoch()
    run.epoch = number
    exact.end_epoch(History(Plan(), [record(number, 0.5)]), decisions)
    exact._worker.wait()
    return saved(run)


def saved(run):
    folder = run.save_dir / "weights" / "states"
    return sorted(int(path.name.split("-")[0].removeprefix("epoch")) for path in folder.glob("*.state"))


def test_nothing_happens_unless_a_callback_asks(run, said):
    exact = begun(run, 0, 0)
    assert [epoch(exact, number) for number in (1, 2)] == [[], []]
    exact.remove()
    exact.close(None)
    assert run.training_state.done == []
    assert said.lines == []


@pytest.mark.parametrize(
    ("every", "after"),
    [
        ((1,), [[1], [2], [3], [4], [5], [5]]),  # after the last epoch, nothing is left to resume
        ((2,), [[], [2], [2], [4], [4], [4]]),
        ((5, 0, 3), [[], [], [3], [3], [3], [3]]),
    ],
)
def test_the_state_of_every_nth_epoch_replaces_the_one_before(every, after, run):
    exact = begun(run, *every)
    assert [epoch(exact, number) for number in range(1, 7)] == after


def test_a_run_that_stops_saves_its_state_since_it_may_be_resumed(run):
    exact = begun(run, 4)
    assert [epoch(exact, 1), epoch(exact, 2, [Stop("enough", 2)])] == [[], [2]]


def test_a_state_says_what_it_is_known_by(run):
    exact = begun(run, 2)
    epoch(exact, 2)
    content = TrainingStates(run.save_dir, 0, 1).read(2)
    del content["format"]
    assert content == {
        "epoch": 2,
        "every": 2,
        "state": {"weight": 1.0},
        "elapsed": 20.0,
        "conditions": {"workers": 2},
    }


def test_a_rank_above_0_saves_its_own_state_alone(run):
    run.is_main = False
    exact = begun(run)
    epoch(exact, 1)
    assert set(TrainingStates(run.save_dir, 0, 1).read(1)) == {"format", "epoch", "every", "state"}
    assert run.training_state.done == ["begun"]  # rank 0 looks at the data


# ------------------------------------------------------------------------------------ where it cannot be saved


@pytest.mark.parametrize(
    ("problems", "why"),
    [
        (["there is no EMA", "time= plans by the clock"], "there is no EMA; time= plans by the clock"),
        (AttributeError("no scheduler"), "AttributeError: no scheduler"),
    ],
)
def test_a_training_that_cannot_be_resumed_exactly_says_so_once(problems, why, run, said):
    run.training_state.problems = problems
    exact = begun(run)
    assert [epoch(exact, number) for number in (1, 2)] == [[], []]
    assert said.lines == [("INFO", f"If this run is interrupted, its resume will not be exact: {why}")]
    assert run.training_state.done == []


def test_a_state_that_cannot_be_read_ends_nothing_and_is_not_tried_again(run, said):
    exact = begun(run)
    run.state = RuntimeError("out of memory")
    assert epoch(exact, 1) == []
    run.state = {}
    assert epoch(exact, 2) == []
    assert said.warnings == ["If this run is interrupted, its resume will not be exact: RuntimeError: out of memory"]


def test_an_epoch_without_a_whole_state_is_said_once_and_the_next_one_saved(run, said):
    exact, run.state = begun(run), None
    assert [epoch(exact, 1), epoch(exact, 2)] == [[], []]
    (text,) = said.warnings
    assert text.startswith("The training state of epoch 1 is not saved: the epoch ended before its last batch")
    run.state = {}
    assert epoch(exact, 3) == [3]


def test_a_full_disk_leaves_the_state_before(run, said, monkeypatch):
    exact = begun(run)
    epoch(exact, 1)

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStates, "write", refuse)
        assert epoch(exact, 2) == [1]
    assert "the previous one is kept" in said.warnings[0]
    assert epoch(exact, 3) == [3]


def test_states_of_an_earlier_course_stay_until_the_first_new_one_is_there(run, monkeypatch):
    """A kill before it leaves something to resume from; whatever its number, it then goes."""
    TrainingStates(run.save_dir, 0, 1).write(5, {}, alone=True)
    exact = begun(run)
    write = TrainingStates.write
    alone = []
    monkeypatch.setattr(
        TrainingStates, "write", lambda me, *args, **how: alone.append(how["alone"]) or write(me, *args, **how)
    )
    assert saved(run) == [5]
    assert [epoch(exact, 1), epoch(exact, 2)] == [[1], [2]]
    assert alone == [True, False]


def test_the_training_waits_for_the_first_state_alone(run, monkeypatch):
    exact, write, looked = begun(run), TrainingStates.write, threading.Event()

    def write_slowly(states, epoch, content, *, alone):
        looked.wait(0.2 if epoch == 1 else 30)
        write(states, epoch, content, alone=alone)

    monkeypatch.setattr(TrainingStates, "write", write_slowly)
    for run.epoch in (1, 2):
        exact.end_epoch(History(Plan(), [record(run.epoch, 0.5)]), ())
        assert saved(run) == [1]
    looked.set()
    exact.close(None)
    assert saved(run) == [2]


class Slow:
    """Writes states when it is told to, and the first one at once."""

    def __init__(self, monkeypatch):
        self.go_on, write = threading.Event(), TrainingStates.write

        def write_slowly(states, epoch, content, *, alone):
            assert alone or self.go_on.wait(30)
            write(states, epoch, content, alone=alone)

        monkeypatch.setattr(TrainingStates, "write", write_slowly)


def end(exact, number, *decisions, seconds=10.0):
    """End an epoch, and wait for nothing."""
    exact._run.epoch = number
    exact.end_epoch(History(Plan(), [record(number, 0.5, elapsed=seconds * number)]), decisions)


def test_an_epoch_that_is_shorter_than_the_writing_of_a_state_does_not_wait_for_it(run, monkeypatch):
    exact, slow = begun(run), Slow(monkeypatch)
    for number in (1, 2, 3, 4):
        end(exact, number)
    assert saved(run) == [1]
    slow.go_on.set()
    exact._worker.wait()
    assert saved(run) == [2]
    end(exact, 5)  # the next that finds the writer free
    exact.close(None)
    assert saved(run) == [5]


@pytest.mark.parametrize(
    ("fields", "decisions", "seconds"),
    [
        ({}, (Stop("enough", 3),), 1.0),  # it may be resumed from here, and there is time
        ({"world_size": 2}, (), 1.0),  # all ranks save the same epochs
        ({}, (), 31.0),  # more than a minute of training would be lost
    ],
)
def test_where_it_has_to_the_training_waits_for_the_state(fields, decisions, seconds, run, monkeypatch):
    vars(run).update(fields)
    exact, slow = begun(run), Slow(monkeypatch)
    end(exact, 1)
    end(exact, 2)
    threading.Timer(0.3, slow.go_on.set).start()
    end(exact, 3, *decisions, seconds=seconds)
    assert slow.go_on.is_set()
    exact.close(None)
    newest = "epoch3-rank0of" + str(run.world_size)
    assert [path.name for path in (run.save_dir / "weights/states").iterdir() if path.name.startswith(newest)]


# ------------------------------------------------------------------------------------ taking up


@pytest.fixture
def resumed(run, monkeypatch):
    """Return a resumed run, and choose the state of epoch 3 for it."""
    run.resumed, run.epoch = True, 3
    chosen = {"epoch": 3, "state": {"weight": 3.0}}
    TrainingStates(run.save_dir, 0, 1).write(3, chosen, alone=True)
    monkeypatch.setattr(module, "choose_state", lambda run, states, obstacles: (chosen, "Resuming exactly"))
    return run


def test_the_state_is_put_back_once_before_the_first_epoch(resumed, said):
    exact = begun(resumed)
    assert resumed.training_state.done[0] == ("resumed", 3, {"weight": 3.0})
    assert said.lines == []
    assert epoch(exact, 4) == [4]
    assert epoch(exact, 5) == [5]
    done = [step for step in resumed.training_state.done if step != "looked at the data"]
    assert done[1:] == ["begun", ("restored", {"weight": 3.0}), "begun"]
    assert said.lines == [("INFO", "Resuming exactly")]


def test_the_state_that_was_taken_up_stays_until_a_newer_one_is_there(resumed, monkeypatch):
    exact, write, alone = begun(resumed), TrainingStates.write, []
    monkeypatch.setattr(
        TrainingStates, "write", lambda me, *args, **how: alone.append(how["alone"]) or write(me, *args, **how)
    )
    assert epoch(exact, 4) == [4]
    assert alone == [False]


def test_from_the_weights_nothing_is_put_back(resumed, monkeypatch, said):
    monkeypatch.setattr(module, "choose_state", lambda run, states, obstacles: (None, "Resuming from the weights"))
    assert epoch(begun(resumed), 4) == [4]
    assert [step for step in resumed.training_state.done if step != "looked at the data"] == ["begun"]
    assert said.lines == [("INFO", "Resuming from the weights")]


def test_another_rank_reads_its_own_state_of_the_epoch_that_rank_0_has_chosen(resumed, monkeypatch, said):
    resumed.is_main = False
    monkeypatch.setattr(module.ranks, "broadcast", lambda value, size: 3)
    monkeypatch.setattr(module, "choose_state", lambda *args: pytest.fail("rank 0 chooses"))
    exact = begun(resumed)
    exact.begin_epoch()
    assert resumed.training_state.done == [
        ("resumed", 3, {"weight": 3.0}), "begun", ("restored", {"weight": 3.0}),
    ]  # fmt: skip
    assert said.lines == []


DIFFER = "From here on the numbers differ from those of an uninterrupted run: "


def test_a_first_epoch_that_begins_again_is_said_to_be_different(resumed, said):
    exact = begun(resumed)
    for _ in range(3):
        exact.begin_epoch()
    assert said.warnings == [DIFFER + "its first epoch began again with a smaller batch"]


@pytest.mark.parametrize(("first", "second", "told"), [(True, False, 1), (False, True, 0)])
def test_nan_matters_in_the_first_resumed_epoch_alone(first, second, told, resumed, said):
    exact = begun(resumed)
    resumed.training_state.nan = first
    epoch(exact, 4)
    resumed.training_state.nan = second
    epoch(exact, 5)
    assert said.warnings == [DIFFER + "NaN in the first epoch, which Ultralytics cannot repeat after a resume"] * told


# ------------------------------------------------------------------------------------ the end


def test_the_states_go_when_nothing_is_left_to_train(run):
    exact = begun(run)
    epoch(exact, 1)
    exact.remove()
    assert not (run.save_dir / "weights" / "states").exists()


@pytest.mark.parametrize(("main", "left"), [(True, [1]), (False, [])])
def test_other_ranks_follow_rank_0_in_the_end(main, left, run, monkeypatch):
    monkeypatch.setattr(module.ranks, "rank", lambda: 0 if main else 1)
    run.world_size, run.is_main = 2, main
    exact = begun(run)
    epoch(exact, 1)
    exact.close(None)
    assert saved(run) == left


@pytest.mark.parametrize(("error", "seconds"), [(None, 0.4), (ValueError(), 0.4), (SystemExit(143), 0.1)])
def test_a_state_that_is_not_written_in_time_is_abandoned(error, seconds, run, said, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.4)
    monkeypatch.setattr(module, "HURRY_TIMEOUT", 0.1)
    exact = begun(run)
    closed = []
    monkeypatch.setattr(exact._worker, "close", closed.append)
    exact.close(error)
    assert closed == [seconds]
    assert said.warnings == [f"The training state was not written within {seconds:g} s and is abandoned"]
