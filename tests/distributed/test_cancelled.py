"""A cancel from the Platform ends a training on two ranks, where plain Ultralytics leaves one of them and hangs."""

from yolo_callbacks import StopReason
from yolo_callbacks.run_dir.journal import read_journal


def test_a_cancel_ends_both_ranks_with_the_same_epoch(cancelled):
    assert cancelled.answers[0]["stop_reason"] is StopReason.CANCELLED
    done = [[line["epoch"] for line in cancelled.witness(rank) if "done" in line] for rank in (0, 1)]
    assert done[0] == done[1]
    assert 2 <= done[0][-1] < 200
    assert len(read_journal(cancelled.folder / "run" / "callbacks" / "journal.jsonl").entries) == done[0][-1]
    sent = [item["metrics"] for item in cancelled.platform.of("run", "epoch_end")]
    assert sum("custom/lr_factor" in metrics for metrics in sent) == done[0][-1]
    assert cancelled.platform.of("run", "training_complete")
    assert not cancelled.left_behind
