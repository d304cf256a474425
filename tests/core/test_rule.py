"""What a rule says of itself: whether its errors end a training, and its configuration."""

import pytest

from yolo_callbacks import Callback
from yolo_callbacks.core.rule import Priority, Rule


def test_a_rule_alone_is_harmless_and_decides_nothing():
    rule = Rule()
    assert (rule.priority, rule.critical, rule.verbose, rule.restore_best_weights) == (Priority.REPORT, False, 1, False)
    assert rule.decide(None) is None
    assert (list(rule.needs()), list(rule.outputs()), dict(rule.counters(None))) == ([], [], {})


@pytest.mark.parametrize("priority", Priority)
def test_who_sets_only_a_priority_is_critical_if_it_comes_before_reporters(priority):
    cls = type("Mine", (Callback,), {"priority": priority})
    assert cls.critical is (priority < Priority.REPORT)
    assert type("Heir", (cls,), {}).critical is cls.critical


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("critical", [True, False])
def test_the_flag_itself_wins(priority, critical):
    cls = type("Mine", (Callback,), {"priority": priority, "critical": critical})
    assert cls.critical is critical
    assert type("Heir", (cls,), {}).critical is critical


def test_parameters_are_read_from_attributes_of_their_names():
    class Mine(Rule):
        def __init__(self, first, *, second=2):
            self.first, self.second, self._hidden = first, second, 3

    assert Mine(1).get_config() == {"first": 1, "second": 2}
    assert repr(Mine("a")) == "Mine(first='a', second=2)"
