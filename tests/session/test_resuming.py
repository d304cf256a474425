"""How an interrupted run goes on: from which state, with which epochs, and what becomes of its files."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import record
from yolo_callbacks import EarlyStopping, ModelCheckpoint, Plan, Stop, StopReason
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.run_dir.checkpoints import CheckpointStore
from yolo_callbacks.run_dir.journal import Journal, read_journal
from yolo_callbacks.run_dir.recovery import epochs_in
from yolo_callbacks.run_dir.training_states import TrainingStates, UnreadableStateError
from yolo_callbacks.session.resuming import choose_state, known_checkpoints, take_up
from yolo_callbacks.support.background import Background

LOADED = {"workers": 2}
COMPLETED = Stop("completed all", source="trainer")


class Resumed(SimpleNamespace):
    """What there is of a run that was loaded from a checkpoint."""

    def __init__(self, folder, done, checkpoint="last.pt", planned=10, **fields):
        self.continued_at, self.misfits = None, []
        super().__init__(
            save_dir=folder,
            callbacks_dir=folder / "callbacks",
            epochs_before=done,
            planned_epochs=planned,
            resumed_from=folder / "weights" / checkpoint,
            last_checkpoint=folder / "weights" / "last.pt",
            best_checkpoint=folder / "weights" / "best.pt",
            checkpoint_epochs=None,
            save_period=-1,
            training_state=SimpleNamespace(conditions=lambda: LOADED, misfits=lambda state: self.misfits),
            apply_finish=lambda finishing: None,
            why_finished=lambda: COMPLETED if done == planned else None,
            with_schedule=lambda one, rates: record(one.epoch, 0.0, base_lr=0.01),
        )
        vars(self).update(fields)
        (folder / "weights").mkdir(exist_ok=True)

    def continue_clock(self, elapsed):
        self.continued_at = elapsed


def measured(epoch, value=0.5, **fields):
    return record(epoch, value, planned=10, base_lr=0.01, next_base_lr=0.01, **fields)


def write_journal(folder, records, pending=None, name="journal.jsonl"):
    journal = Journal(folder / "callbacks" / name)
    journal.path.parent.mkdir(exist_ok=True)
    journal.begin(JournalContent(Plan(planned_epochs=10), (), [Entry(one) for one in records]))
    if pending is not None:
        journal.announce(pending)


def write_results(folder, *epochs):
    rows = [f"{epoch},{epoch * 7},0.3,0.2\n" for epoch in epochs]
    (folder / "results.csv").write_text("epoch,time,metrics/mAP50(B),val/box_loss\n" + "".join(rows))


def save(folder, name, epochs, **fields):
    path = folder / "weights" / name
    path.parent.mkdir(exist_ok=True)
    torch.save({"epoch": epochs - 1, **fields}, path)
    return path


def files(folder):
    return sorted(path.name for path in (folder / "weights").iterdir())


# ------------------------------------------------------------------------------------ exactly, or from the weights


def saved_state(folder, epoch, *, logged=5, seconds=10.0, **fields):
    """Save a state as a run of one rank does, with the journal and the results of epochs that take so many seconds."""
    states = TrainingStates(folder, 0, 1)
    content = {"every": 1, "state": {}, "elapsed": seconds * epoch, "conditions": LOADED, **fields}
    states.write(epoch, {name: value for name, value in content.items() if value is not None}, alone=True)
    numbers = range(1, max(epoch, logged) + 1)
    write_journal(folder, [measured(number, elapsed=seconds * number) for number in numbers])
    write_results(folder, *numbers)
    return states


EXACTLY = "Resuming exactly, after epoch {}: the numbers are those of an uninterrupted run"


@pytest.mark.parametrize(
    ("epoch", "every", "checkpoint", "more"),
    [
        (5, 1, "last.pt", ""),
        (4, 1, "last.pt", " (last.pt is of epoch 5, which runs again)"),
        (6, 1, "last.pt", " (last.pt is of epoch 5, and not needed)"),
        (6, 1, "backup.pt", " (backup.pt is of epoch 5, and not needed)"),
        (2, 3, "last.pt", " (last.pt is of epoch 5, and the epochs after 2 run again)"),
        (4, 1, "best-fitness.pt", " (best-fitness.pt is of epoch 5, which runs again)"),
        (3, 1, "last.pt", " (last.pt is of epoch 5, and the epochs after 3 run again)"),  # they were short
        (5, 1, "best-fitness.pt", ""),
    ],
)
def test_a_state_of_about_the_same_epoch_is_taken_up(epoch, every, checkpoint, more, tmp_path):
    states = saved_state(tmp_path, epoch, every=every)
    content, why = choose_state(Resumed(tmp_path, 5, checkpoint), states, ())
    assert (content["epoch"], why) == (epoch, EXACTLY.format(epoch) + more)


@pytest.mark.parametrize(
    ("epoch", "checkpoint", "saved", "why"),
    [
        (3, "last.pt", {"seconds": 61.0}, "the saved state is of epoch 3"),
        (7, "last.pt", {}, "the saved state is of epoch 7"),
        (1, "last.pt", {"every": 3, "seconds": 31.0}, "the saved state is of epoch 1"),
        (6, "best-fitness.pt", {}, "the saved state is of epoch 6"),  # somebody has chosen an older checkpoint
        (5, "last.pt", {"conditions": {"workers": 8}}, "workers: 2 instead of 8"),
        (5, "last.pt", {"elapsed": 49.0}, "the journal does not have epoch 5 as the saved state has it"),
        (5, "last.pt", {"format": 9}, "epoch5-rank0of1.state has format 9"),
        (5, "last.pt", {"every": None}, "the saved state lacks something (KeyError('every'))"),
        (5, "last.pt", {"every": "x"}, "the saved state lacks something (TypeError("),
        (5, "last.pt", {"conditions": [1]}, "the saved state lacks something ("),
    ],
)
def test_a_state_that_does_not_fit_is_left_with_the_reason(epoch, checkpoint, saved, why, tmp_path):
    states = saved_state(tmp_path, epoch, **saved)
    content, said = choose_state(Resumed(tmp_path, 5, checkpoint), states, ())
    assert content is None
    assert said.startswith(f"Resuming from the weights of {checkpoint}, after epoch 5: the numbers will differ")
    assert why in said


def test_a_run_that_was_resumed_from_an_older_state_and_killed_again_is_resumed_from_it_again(tmp_path):
    """Its logs were cut back to the state; `last.pt` is still that of before."""
    states = saved_state(tmp_path, 3, logged=3)
    for rows in ((1, 2, 3), (1, 2, 3, 4)):  # killed before the row of the next epoch, or after it
        write_results(tmp_path, *rows)
        assert choose_state(Resumed(tmp_path, 5), states, ())[0]["epoch"] == 3
    write_results(tmp_path, 1, 2, 3, 4, 5)  # continued without us
    assert choose_state(Resumed(tmp_path, 5), states, ())[0] is None
    (tmp_path / "results.csv").unlink()
    assert choose_state(Resumed(tmp_path, 5), states, ())[0] is None


def test_a_state_that_another_model_has_saved_is_left(tmp_path):
    run, states = Resumed(tmp_path, 5), saved_state(tmp_path, 5)
    run.misfits = ["the model is another one"]
    assert choose_state(run, states, ())[1].endswith(", because the model is another one")


def test_obstacles_come_before_any_look_at_the_state(tmp_path):
    states = saved_state(tmp_path, 5)
    content, why = choose_state(Resumed(tmp_path, 5), states, ["there is no EMA", "time= plans by the clock"])
    assert content is None
    assert why.endswith(", because there is no EMA; time= plans by the clock")


def test_a_state_needs_a_journal_and_the_states_of_all_ranks(tmp_path, monkeypatch):
    run, states = Resumed(tmp_path, 5), TrainingStates(tmp_path, 0, 1)
    assert "no training state was saved with it" in choose_state(run, states, ())[1]
    saved_state(tmp_path, 5)
    with monkeypatch.context() as patch:

        def damaged(epoch):
            raise UnreadableStateError("that of rank 1 is damaged")

        patch.setattr(states, "verify_others", damaged)
        assert choose_state(run, states, ())[1].endswith("that of rank 1 is damaged")
    (run.callbacks_dir / "journal.jsonl").unlink()
    assert "the journal does not have epoch 5" in choose_state(run, states, ())[1]


def test_a_run_with_nothing_left_to_train_chooses_nothing(tmp_path):
    assert choose_state(Resumed(tmp_path, 10), saved_state(tmp_path, 10), ["an obstacle"]) == (None, "")


# ------------------------------------------------------------------------------------ the epochs


def taken_up(run, *callbacks, known=()):
    """Take a run up; return its ledger, what its checkpoint store lists, and why it had ended."""
    ledger = Ledger({type(callback).__name__: callback for callback in callbacks}, Plan(planned_epochs=10))
    store = CheckpointStore(run, Background("x"), known, lambda: None)
    over = take_up(run, ledger, run.callbacks_dir / "journal.jsonl", store)
    store.wait()
    return ledger, store, over


def epochs_of(ledger):
    return [entry.record.epoch for entry in ledger.entries]


def test_a_fresh_run_has_no_epochs_and_sets_an_earlier_one_aside(tmp_path, said):
    write_journal(tmp_path, [measured(1), measured(2)])
    save(tmp_path, "last.pt", 2)
    save(tmp_path, "mine.pt", 2)
    (tmp_path / "weights" / "notes.pt").write_text("no checkpoint")
    ledger, _, over = taken_up(Resumed(tmp_path, 0))
    assert (ledger.entries, over) == ([], None)
    assert len(read_journal(tmp_path / "callbacks" / "journal.1.jsonl").entries) == 2
    assert files(tmp_path) == ["last.pt.old", "mine.pt.old", "notes.pt"]
    assert [text.partition(" is kept")[0] for text in said.warnings] == [
        "The journal of an earlier run",
        "Renamed checkpoints of an earlier run to *.old: last.pt, mine.pt",
    ]


def test_the_epochs_are_those_of_the_journal(tmp_path):
    write_journal(tmp_path, [measured(1), measured(2), measured(3)])
    save(tmp_path, "last.pt", 3)
    run = Resumed(tmp_path, 3)
    ledger, _, over = taken_up(run)
    assert [entry.record for entry in ledger.entries] == [measured(1), measured(2), measured(3)]
    assert (over, run.continued_at) == (None, 30.0)


@settings(max_examples=30, deadline=None)
@given(done=st.integers(1, 6), written=st.integers(0, 8), pending=st.booleans(), torn=st.booleans())
def test_each_finished_epoch_is_there_once_whatever_the_journal_lacks(done, written, pending, torn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    last = measured(written + 1) if pending else None
    write_journal(folder, [measured(number) for number in range(1, written + 1)], last)
    path = folder / "callbacks" / "journal.jsonl"
    if torn:
        path.write_bytes(path.read_bytes()[:-4])
    write_results(folder, *range(1, 10))
    save(folder, "last.pt", done)
    assert epochs_of(taken_up(Resumed(folder, done))[0]) == list(range(1, done + 1))


def test_an_epoch_that_was_announced_but_not_decided_is_decided_now(tmp_path):
    write_journal(tmp_path, [measured(1, 0.5), measured(2, 0.4)], measured(3, 0.3))
    save(tmp_path, "last.pt", 3)
    ledger, _, over = taken_up(Resumed(tmp_path, 3), EarlyStopping(patience=2))
    assert (ledger.entries[-1].stop.reason, over) == (StopReason.PLATEAU, ledger.entries[-1].stop)


def test_epochs_come_from_results_csv_then_from_the_checkpoint_and_the_missing_ones_are_named(tmp_path, said):
    write_journal(tmp_path, [measured(5, 0.9)])
    write_results(tmp_path, 3)
    save(tmp_path, "last.pt", 5, train_results={"epoch": [1, 3], "time": [1.0, 2.0], "metrics/mAP50(B)": [0.1, 0.6]})
    run = Resumed(tmp_path, 5, with_schedule=lambda one, rates: one)
    ledger, _, _ = taken_up(run)
    assert epochs_of(ledger) == [1, 3, 5]
    assert [e.record.metrics.get("metrics/mAP50(B)") for e in ledger.entries] == [0.1, 0.3, None]
    assert ledger.entries[-1].record == measured(5, 0.9)
    assert said.warnings == ["Epochs missing from every log: 2, 4; the run continues without them"]


def test_only_epochs_of_results_csv_get_the_learning_rate_of_the_schedule(tmp_path):
    write_journal(tmp_path, [measured(2, elapsed=20.0)])
    write_results(tmp_path, 1)
    save(tmp_path, "last.pt", 2)
    asked = []
    run = Resumed(tmp_path, 2)
    run.with_schedule = lambda one, rates: asked.append(one.epoch) or one
    taken_up(run)
    assert asked == [1]


@pytest.mark.parametrize(("exactly", "aside"), [(None, True), (2, False)])
def test_a_journal_that_is_ahead_is_kept_unless_its_epochs_are_made_again_as_they_are(exactly, aside, tmp_path, said):
    write_journal(tmp_path, [measured(1), measured(2), measured(3)])
    save(tmp_path, "last.pt", 2)
    taken_up(Resumed(tmp_path, 2, checkpoint_epochs=exactly))
    assert (tmp_path / "callbacks" / "journal.1.jsonl").exists() == aside
    assert any("The journal of epochs after 2, which now run again," in text for text in said.warnings) == aside


@pytest.mark.parametrize(("rows", "word"), [((1, 2, 3), "1 row"), ((1, 2, 3, 4), "2 rows"), ((1, 2), None)])
def test_rows_of_epochs_that_run_again_leave_results_csv(rows, word, tmp_path, said):
    write_journal(tmp_path, [measured(1), measured(2)])
    write_results(tmp_path, *rows)
    save(tmp_path, "last.pt", 2)
    taken_up(Resumed(tmp_path, 2))
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [line[0] for line in lines] == ["e", "1", "2"]
    found = [text for _, text in said.lines if "of epochs that run again" in text]
    assert found == ([f"{tmp_path / 'results.csv'}: removed {word} of epochs that run again"] if word else [])


def test_a_results_csv_that_cannot_be_mended_does_not_end_the_run(tmp_path, said):
    write_journal(tmp_path, [measured(1)])
    (tmp_path / "results.csv").mkdir()
    save(tmp_path, "last.pt", 1)
    assert epochs_of(taken_up(Resumed(tmp_path, 1))[0]) == [1]
    assert "results.csv cannot be cut back to epoch 1" in said.warnings[0]


def test_a_run_that_had_ended_by_its_own_rules_says_so(tmp_path):
    write_journal(tmp_path, [measured(number) for number in range(1, 11)])
    save(tmp_path, "last.pt", 10)
    assert taken_up(Resumed(tmp_path, 10))[2] is COMPLETED


# ------------------------------------------------------------------------------------ the checkpoints


def test_checkpoints_of_epochs_that_run_again_are_renamed_and_last_pt_is_the_resumed_one(tmp_path, said):
    write_journal(tmp_path, [measured(1), measured(2)])
    for name, epochs in {"last.pt": 4, "backup.pt": 3, "latest.pt": 1, "best-fitness.pt": 4, "mine.pt": 2}.items():
        save(tmp_path, name, epochs)
    taken_up(Resumed(tmp_path, 2, "mine.pt"))
    assert files(tmp_path) == [
        "backup.pt.old", "best-fitness.pt", "last.pt", "last.pt.old", "latest.pt", "mine.pt",
    ]  # fmt: skip
    assert epochs_in(tmp_path / "weights" / "last.pt") == 2
    assert said.warnings == ["Renamed checkpoints of epochs that run again to *.old: last.pt, backup.pt"]


def test_the_checkpoint_that_a_run_is_resumed_from_is_never_renamed(tmp_path, said):
    write_journal(tmp_path, [measured(1), measured(2)])
    save(tmp_path, "last.pt", 2)
    save(tmp_path, "backup.pt", 4)
    taken_up(Resumed(tmp_path, 2, "backup.pt"))
    assert files(tmp_path) == ["backup.pt", "last.pt"]
    assert said.warnings == []


def test_nothing_is_renamed_that_an_exact_resume_needs_no_more(tmp_path):
    write_journal(tmp_path, [measured(1), measured(2)])
    save(tmp_path, "last.pt", 3)
    taken_up(Resumed(tmp_path, 2, "last.pt", checkpoint_epochs=3))
    assert files(tmp_path) == ["last.pt"]


@pytest.mark.parametrize(
    ("fitness", "best", "exactly", "mended"),
    [
        (0.5, 0.5, None, True),
        (0.5, 0.5, 2, True),
        (0.5, 0.5, 3, False),  # the checkpoint is of another epoch
        (0.4, 0.5, None, False),  # this epoch is not the best one
        (None, None, None, False),
    ],
)
def test_best_pt_is_written_where_the_process_died_before_it(fitness, best, exactly, mended, tmp_path):
    write_journal(tmp_path, [measured(1), measured(2)])
    metrics = {} if fitness is None else {"fitness": fitness}
    save(tmp_path, "last.pt", 2, train_metrics=metrics, best_fitness=best)
    save(tmp_path, "best.pt", 1)
    taken_up(Resumed(tmp_path, 2, checkpoint_epochs=exactly))
    assert epochs_in(tmp_path / "weights" / "best.pt") == (2 if mended else 1)


@pytest.mark.parametrize(
    ("done", "period", "exactly", "mended"),
    [
        (3, 2, None, True),  # Ultralytics counts this epoch as 2
        (2, 2, None, False),
        (3, -1, None, False),
        (3, 2, 4, False),
    ],
)
def test_a_checkpoint_of_save_period_is_written_where_the_process_died_before_it(
    done, period, exactly, mended, tmp_path
):
    write_journal(tmp_path, [measured(number) for number in range(1, done + 1)])
    save(tmp_path, "last.pt", done)
    taken_up(Resumed(tmp_path, done, save_period=period, checkpoint_epochs=exactly))
    assert files(tmp_path) == ([f"epoch{done - 1}.pt"] if mended else []) + ["last.pt"]


def test_weights_from_the_middle_of_an_epoch_are_no_ones_best(tmp_path):
    write_journal(tmp_path, [measured(1), measured(2)])
    save(tmp_path, "preempted.pt", 2, train_metrics={"fitness": 0.5}, best_fitness=0.5)
    taken_up(Resumed(tmp_path, 2, "preempted.pt"))
    assert files(tmp_path) == ["preempted.pt"]


BEST = "weights/best-fitness.pt"


def test_a_checkpoint_that_was_decided_just_before_the_kill_is_kept_now(tmp_path, said):
    write_journal(tmp_path, [measured(1, 0.4), measured(2, 0.5)])
    save(tmp_path, "last.pt", 2)
    _, store, _ = taken_up(Resumed(tmp_path, 2), ModelCheckpoint())
    assert [(item["file"], item["epoch"]) for item in store.stored] == [(BEST, 2)]
    assert epochs_in(tmp_path / BEST) == 2
    assert said.warnings == []


def test_one_whose_weights_are_gone_is_named(tmp_path, said):
    write_journal(tmp_path, [measured(1, 0.4), measured(2, 0.5)])
    save(tmp_path, "preempted.pt", 2)
    _, store, _ = taken_up(Resumed(tmp_path, 2, "preempted.pt"), ModelCheckpoint())
    assert store.stored == []
    assert said.warnings == [f"{BEST} (epoch 2) was lost when the process died"]


def test_one_that_is_there_is_not_copied_again(tmp_path):
    write_journal(tmp_path, [measured(1, 0.4), measured(2, 0.5)])
    save(tmp_path, "last.pt", 2)
    save(tmp_path, "best-fitness.pt", 2, mark="the first")
    taken_up(Resumed(tmp_path, 2), ModelCheckpoint(), known=[{"file": BEST, "epoch": 2}])
    assert torch.load(tmp_path / BEST)["mark"] == "the first"


@pytest.mark.parametrize(("ahead", "listed"), [(None, []), (3, [BEST])])
def test_the_newest_save_counts_as_carried_out_if_a_later_checkpoint_was_written(ahead, listed, tmp_path):
    """No `last.pt` of epoch 2 to keep it from; best-fitness.pt holds it, but run.json is behind."""
    write_journal(tmp_path, [measured(1, 0.4), measured(2, 0.5)])
    save(tmp_path, "preempted.pt", 3)
    save(tmp_path, "best-fitness.pt", 2)
    run = Resumed(tmp_path, 2, "preempted.pt", checkpoint_epochs=ahead)
    assert [item["file"] for item in taken_up(run, ModelCheckpoint())[1].stored] == listed


@pytest.mark.parametrize(
    ("done", "exactly", "expected", "later"),
    [
        (0, None, [], ""),
        (2, None, ["a.pt", "b.pt"], "c.pt, d.pt"),
        (2, 3, ["a.pt", "b.pt"], ""),
        (9, None, ["a.pt", "b.pt", "c.pt", "d.pt"], ""),
    ],
)
def test_kept_checkpoints_are_known_up_to_the_resumed_epoch(done, exactly, expected, later, tmp_path, said):
    listed = [{"file": f"{name}.pt", "epoch": epoch} for epoch, name in enumerate("abcd", start=1)]
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "run.json").write_text(json.dumps({"checkpoints": listed}))
    known = known_checkpoints(Resumed(tmp_path, done, checkpoint_epochs=exactly))
    assert [item["file"] for item in known] == expected
    assert said.warnings == (
        [f"Kept checkpoints of epochs after {done}, which now run again: {later}"] if later else []
    )
