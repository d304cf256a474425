"""Our logger follows that of Ultralytics, and other libraries are silenced where they would tell too much."""

import contextvars
import logging
import threading

import pytest

from yolo_callbacks.support.log import LOGGER, quiet


def test_other_libraries_are_quiet_on_this_thread_only(caplog):
    logger = logging.getLogger("some.library")

    def other():
        logger.warning("from another thread")

    with caplog.at_level(logging.DEBUG), quiet("some.library") as said:
        logger.debug("POST %s", "/t0ken")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    logger.warning("afterwards")
    assert said == ["POST /t0ken"]
    assert [record.getMessage() for record in caplog.records] == ["from another thread", "afterwards"]
    assert logger.filters == []


def logged(caplog):
    return [record.getMessage() for record in caplog.records]


def test_our_lines_are_those_of_ultralytics():
    assert LOGGER.parent is logging.getLogger("ultralytics")
    assert (LOGGER.level, LOGGER.handlers, LOGGER.propagate) == (logging.NOTSET, [], True)


@pytest.mark.parametrize(
    ("below", "shown", "suppressed"),
    [
        (float("inf"), [], ["detail", "note", "warning", "error"]),
        (logging.WARNING, ["warning", "error"], ["detail", "note"]),
        (logging.DEBUG, ["detail", "note", "warning", "error"], []),
    ],
)
def test_what_is_important_enough_is_still_logged(below, shown, suppressed, caplog):
    logger = logging.getLogger("some.library")
    with caplog.at_level(logging.DEBUG), quiet("some.library", below=below) as said:
        for level, text in [(10, "detail"), (20, "note"), (30, "warning"), (40, "error")]:
            logger.log(level, text)
    assert (logged(caplog), said) == (shown, suppressed)


def test_only_the_loggers_that_are_named_are_silenced(caplog):
    with quiet("some.library", "another") as said:
        for name in ("some.library", "another", "a.third", "some.library.part"):
            logging.getLogger(name).error(name)
    assert said == ["some.library", "another"]
    assert logged(caplog) == ["a.third", "some.library.part"]


def test_each_has_its_own_messages_within_another(caplog):
    logger = logging.getLogger("some.library")
    with quiet("some.library") as outer:
        logger.error("before")
        with quiet("some.library") as inner:
            logger.error("within")
        logger.error("after")
    assert (outer, inner, logged(caplog)) == (["before", "after"], ["within"], [])


def test_it_ends_with_an_error_too(caplog):
    logger = logging.getLogger("some.library")
    with pytest.raises(ValueError, match="mine"), quiet("some.library"):
        raise ValueError("mine")
    logger.error("afterwards")
    assert logged(caplog) == ["afterwards"]
    assert logger.filters == []


def test_a_thread_that_takes_the_context_along_is_silenced_too(caplog):
    with quiet("some.library") as said:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(logging.getLogger("some.library").error, "within"))
        thread.start()
        thread.join()
    assert (said, logged(caplog)) == (["within"], [])
