"""A cancel from the Platform ends a training on two ranks, where plain Ultralytics leaves one of them and hangs."""

from tests.distributed.callbacks import reported
from tests.platform_server import KEY, Platform
from yolo_callbacks import StopReason
from yolo_callbacks.run_dir.journal import read_journal


def cancel(platform, request):
    return {"cancelled": request["data"]["epoch"] >= 1}


def test_a_cancel_ends_both_ranks_with_the_same_epoch(start, monkeypatch):
    platform = Platform({("run", "epoch_end"): cancel})
    monkeypatch.setenv("ULTRALYTICS_PLATFORM_URL", platform.url)
    monkeypatch.setenv("ULTRALYTICS_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    launch = start(reported, {"name": "run", "epochs": 200}).wait()
    platform.close()
    assert launch.returncode == 0, launch.output
    assert launch.answers[0]["stop_reason"] is StopReason.CANCELLED
    done = [[line["epoch"] for line in launch.witness(rank) if "done" in line] for rank in (0, 1)]
    assert done[0] == done[1]
    assert 2 <= done[0][-1] < 200
    assert len(read_journal(launch.folder / "run" / "callbacks" / "journal.jsonl").entries) == done[0][-1]
    sent = [item["metrics"] for item in platform.of("run", "epoch_end")]
    assert sum("custom/lr_factor" in metrics for metrics in sent) == done[0][-1]
    assert platform.of("run", "training_complete")
    assert not launch.left_behind
