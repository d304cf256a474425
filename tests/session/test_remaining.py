"""The time that is left: what goes into it, and where it is told."""

import time

import pytest

from tests.callbacks.session_stub import SessionStub
from tests.helpers import run_json
from yolo_callbacks import Callback, EarlyStopping, Finish
from yolo_callbacks.session.remaining import Remaining, as_json, estimate


def eta_of(session):
    return estimate(session.run, session.ledger, session.callbacks.values())


def session_of(*callbacks, planned=100, epochs=4, **fields):
    session = SessionStub(*callbacks, planned=planned)
    for _ in range(epochs):
        session.epoch(0.5, **fields)
    return session


@pytest.mark.parametrize(
    ("rule", "at_most"),
    [
        (EarlyStopping(patience=5), True),
        (EarlyStopping(patience=200), False),  # it cannot run out before the end
        (EarlyStopping(patience=200, stopping_threshold=0.9), True),
        (EarlyStopping(patience=5, on_plateau="finish"), True),
        (EarlyStopping(), False),  # takes the trainer's patience, which is off
        (EarlyStopping(patience="auto"), True),
        (Callback(), False),
    ],
)
def test_it_is_at_most_while_a_rule_may_stop_the_run(rule, at_most):
    eta = eta_of(session_of(rule))
    assert eta.at_most is at_most
    assert eta.seconds == pytest.approx(960)


def test_a_finish_that_has_begun_has_a_known_end():
    session = session_of(EarlyStopping(patience=5, on_plateau="finish"))
    session.ledger.note([Finish("finish", 4, end_epoch=24, planned_epochs=100)])
    eta = eta_of(session)
    assert eta.seconds == pytest.approx(200)
    assert not eta.at_most


def test_a_run_that_stops_after_this_epoch_has_only_its_final_evaluation_left():
    session = session_of(EarlyStopping(patience=5))
    session.run.trainer.stop = True
    eta = eta_of(session)
    assert eta.seconds == 0
    assert not eta.at_most


def test_the_time_limit_is_the_trainers_own():
    session = session_of()
    session.run.trainer.args.time = 0.5
    session.run.trainer.train_time_start = time.time() - 800
    assert session.run.seconds_to_limit == pytest.approx(1000, abs=5)
    assert eta_of(session).seconds == pytest.approx(1000, abs=5)


def test_validation_is_priced_by_the_speed_of_the_training():
    measures = {"seconds": 10.0, "images_per_second": 100 / 7}  # the stand-in has 100 images
    assert eta_of(session_of(measures=measures)).seconds == pytest.approx(963)


def test_it_goes_into_run_json_and_at_the_end_out_of_it():
    session = session_of()
    remaining = Remaining(session.run, session.files, session.ledger, session.callbacks)
    remaining.tell()
    session.files.wait()
    eta = run_json(session.run.save_dir)["eta"]
    assert eta["seconds"] == 960.0
    assert not eta["at_most"]
    assert eta["ends"][:10] in {time.strftime("%Y-%m-%d", time.localtime(time.time() + shift)) for shift in (955, 965)}
    session.files.conclude(4, None, None)
    session.files.wait()
    assert run_json(session.run.save_dir)["eta"] is None
    assert as_json(None) is None


def lines(said, planned, *, seconds=10.0, finish_in=0, verbose=True):
    session = SessionStub(planned=planned)
    session.run.trainer.args.verbose = verbose
    remaining = Remaining(session.run, session.files, session.ledger, session.callbacks)
    for epoch in range(1, planned + 1):
        finish = [Finish("finish", epoch, end_epoch=99, planned_epochs=planned)] if epoch == finish_in else []
        session.epoch(0.5, decisions=finish, elapsed=seconds * epoch)
        remaining.tell()
    return [text for level, text in said.lines if " left" in text]


def test_a_few_lines_tell_it(said):
    told = lines(said, 100)
    assert [line.split(":")[0] for line in told] == [f"Epoch {epoch} of 100" for epoch in (2, 10, 25, 50, 75, 90)]
    assert "Epoch 50 of 100: about 8 min left, until 2" in told[3]


def test_a_finish_is_told_with_its_new_end(said):
    assert any(line.startswith("Epoch 60 of 99: about 6 min") for line in lines(said, 100, finish_in=60))


@pytest.mark.parametrize("settings", [{"seconds": 0.1}, {"verbose": False}])
def test_a_short_or_quiet_run_has_no_such_line(said, settings):
    assert not lines(said, 100, **settings)


def test_a_rule_that_cannot_say_harms_nothing(said):
    class Broken(Callback):
        def may_stop(self, plan):
            raise ZeroDivisionError

    session = session_of(Broken())
    remaining = Remaining(session.run, session.files, session.ledger, session.callbacks)
    remaining.tell()
    remaining.tell()
    why = "the estimate of the time that is left failed; training continues: ZeroDivisionError: "
    assert said.warnings == [why]
