"""A run at a glance, from its directory."""

import json
import time
from pathlib import Path

import pytest

from tests.inspecting.runs import here, make_old, make_run, pid_of_the_dead
from yolo_callbacks.inspecting.overview import find_runs, overview_of, size_of


def test_every_number_of_a_run(tmp_path):
    folder = make_run(tmp_path / "detect" / "train", 5, manifest={"status": "finished"}, age=7200)
    run = overview_of(folder, tmp_path)
    assert (run.name, run.state.value, run.metric) == (str(Path("detect", "train")), "finished", "mAP50-95")
    assert (run.best, run.best_epoch, run.epochs, run.planned, run.seconds) == (0.5, 3, 5, 10, 300.0)
    assert 7190 < run.age < 7300
    assert run.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert run.ours


def test_a_process_tells_running_from_killed(tmp_path):
    alive = make_run(tmp_path / "alive", manifest=here(), age=0)
    dead = make_run(tmp_path / "dead", manifest=here(pid_of_the_dead()))
    assert (overview_of(alive).state.value, overview_of(dead).state.value) == ("running", "killed")


def test_another_process_with_its_number_is_not_the_run(tmp_path):
    folder = make_run(tmp_path / "run", manifest=here(), age=100 * 86400)  # long before this process began
    assert overview_of(folder).state.value == "killed"


def test_a_run_on_another_machine_is_judged_by_its_silence(tmp_path):
    manifest = {**here(pid_of_the_dead()), "host": "elsewhere"}
    assert overview_of(make_run(tmp_path / "a", manifest=manifest)).state.value == "running"
    assert overview_of(make_run(tmp_path / "b", manifest=manifest, age=86400)).state.value == "killed"


def test_a_heartbeat_counts_where_there_is_one(tmp_path):
    manifest = {"status": "running"}
    folder = make_run(tmp_path / "a", manifest=manifest, age=86400)
    beat = {"status": "running", "time": time.time(), "host": "elsewhere", "pid": 1, "eta": {"seconds": 90.0}}
    (folder / "callbacks" / "heartbeat.json").write_text(json.dumps(beat))
    make_old(folder, 86400)
    assert (overview_of(folder).state.value, overview_of(folder).eta) == ("running", 90.0)
    (folder / "callbacks" / "heartbeat.json").write_text(json.dumps({**beat, "status": "stalled"}))
    assert overview_of(folder).state.value == "stalled"
    (folder / "callbacks" / "heartbeat.json").write_text("torn {")
    make_old(folder, 86400)
    assert overview_of(folder).state.value == "killed"


@pytest.mark.parametrize(
    ("epochs", "extra", "age", "state"),
    [
        (10, {}, 86400, "finished"),
        (5, {}, 86400, "killed"),
        (5, {}, 0, "running"),
        (9, {"patience": 4}, 86400, "stopped"),
    ],
)
def test_runs_made_without_us(tmp_path, epochs, extra, age, state):
    run = overview_of(make_run(tmp_path / "run", epochs, age=age, **extra))
    assert (run.state.value, run.ours, run.epochs) == (state, False, epochs)


def test_ultralytics_final_picture_means_that_it_has_concluded_the_run(tmp_path):
    folder = make_run(tmp_path / "run", 5)
    (folder / "results.png").touch()
    assert overview_of(folder).state.value == "stopped"


def test_a_run_before_its_first_epoch_and_broken_files(tmp_path):
    folder = tmp_path / "new"
    (folder / "weights").mkdir(parents=True)
    (folder / "args.yaml").write_text("epochs: 7\n")
    run = overview_of(folder)
    assert (run.state.value, run.epochs, run.planned, run.best, run.seconds) == ("running", 0, 7, None, None)
    for name, text in (("results.csv", "\x00\n"), ("args.yaml", ": : ["), ("callbacks/run.json", "[1]")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    assert overview_of(folder).epochs == 0


def test_runs_are_found_however_deep_and_nothing_else(tmp_path):
    for name in ("a", "b/c"):
        make_run(tmp_path / name)
    (tmp_path / "val").mkdir()
    (tmp_path / "b" / "args.yaml").touch()
    (tmp_path / "latest").symlink_to(tmp_path / "a")
    assert [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)] == ["a", str(Path("b", "c"))]


def test_a_file_with_two_names_counts_once(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"x" * 1000)
    (tmp_path / "backup.pt").hardlink_to(tmp_path / "last.pt")
    assert size_of(tmp_path) == 1000
