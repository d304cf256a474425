"""In which state a run is."""

import pytest

from yolo_callbacks.inspecting.state import Signs, judge

DAY = 86400.0


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        (Signs("finished", alive=False, silence=DAY), "finished"),
        (Signs("stopped"), "stopped"),
        (Signs("failed"), "failed"),
        (Signs("interrupted"), "interrupted"),
        (Signs("preempted"), "preempted"),
        (Signs("a word of the future"), "stopped"),
        (Signs("running", alive=True), "running"),
        (Signs("running", alive=False), "killed"),
        (Signs("running", alive=True, stalled=True), "stalled"),
        (Signs("running", alive=True, silence=DAY, epoch_seconds=60), "stalled"),
        (Signs("running", alive=True, silence=3000, epoch_seconds=1000), "running"),
        (Signs("running", silence=100), "running"),
        (Signs("running", silence=601, epoch_seconds=10), "killed"),
        (Signs("running", silence=3500), "running"),
        (Signs(completed=True, silence=DAY), "finished"),
        (Signs(concluded=True), "stopped"),
        (Signs(patience_over=True, silence=DAY), "stopped"),
        (Signs(patience_over=True, silence=1), "running"),
        (Signs(silence=DAY), "killed"),
        (Signs(silence=5), "running"),
    ],
)
def test_states(signs, state):
    assert judge(signs)[0].value == state


def test_the_reason_is_what_the_run_says():
    assert judge(Signs("stopped", why="no improvement in mAP50-95 for 20 epochs"))[1].startswith("no improvement")
