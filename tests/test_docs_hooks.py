"""The programs in docs/hooks.md run as they are written, in their smallest form, and what it says of events holds."""

import re
from pathlib import Path

import pytest
from ultralytics import YOLO

from tests.helpers import TINY

TEXT = (Path(__file__).parent.parent / "docs" / "hooks.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_runs(program, shapes, tmp_path, monkeypatch):
    train, models = YOLO.train, []

    def tiny(model, **arguments):
        models.append(model)
        return train(model, **{**arguments, **TINY, "data": str(shapes), "project": str(tmp_path)})

    monkeypatch.setattr(YOLO, "train", tiny)
    names = {"__name__": "program"}
    exec(compile(program, "docs/hooks.md", "exec"), names)
    assert len(models) == 1
    assert not any(module._forward_hooks for module in models[0].trainer.model.modules())
    if "run" in names:
        measured = names["run"].history.filter(regex="^(gradients|activations)/")
        assert measured.shape[1] > 0 and measured.notna().all(axis=None)


def test_no_event_sees_gradients_of_a_step(shapes, tmp_path):
    seen, model = {}, YOLO("yolo26n.yaml", verbose=False)

    def note(event):
        def function(trainer):
            gradients = [parameter.grad is not None for parameter in trainer.model.parameters()]
            seen.setdefault(event, set()).add(any(gradients))

        return function

    events = ("on_train_batch_start", "on_train_batch_end", "on_train_epoch_end", "on_fit_epoch_end")
    for event in (*events, "optimizer_step", "on_before_zero_grad", "on_params_update"):
        model.add_callback(event, note(event))
    model.train(data=str(shapes), project=str(tmp_path), epochs=1, **{**TINY, "batch": 2, "nbs": 2, "warmup_epochs": 0})
    assert seen == {event: {False} for event in events}
