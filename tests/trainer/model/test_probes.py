"""All that looks at a training goes when it is removed, and lets go of the trainer."""

import gc
import weakref

from tests.trainer.model.step_trainer import StepTrainer, traces
from yolo_callbacks.trainer.model.probes import Probes


def test_nothing_is_left_when_all_watches_are_removed():
    trainer = StepTrainer()
    probes = Probes(trainer)
    probes.watch_gradients("A", lambda step: None, 1)
    first = probes.watch_gradients("B", lambda step: None, 1, lambda step: None)
    probes.watch_activations("C", ["0"], lambda *_: None, 1)
    trainer.batch()
    first.remove()
    first.remove()
    assert "optimizer_step" in vars(trainer)
    probes.remove()
    probes.remove()
    assert traces(trainer) == []
    trainer.batch()


def test_the_trainer_can_go_when_the_watches_are_removed():
    """Also where a callback keeps its watch."""
    trainer = StepTrainer()
    probes = Probes(trainer)
    kept = [
        probes.watch_gradients("A", lambda step: None, 1, lambda step: None),
        probes.watch_activations("B", ["0"], lambda *_: None, 1),
    ]
    trainer.batch()
    probes.remove()
    gone = weakref.ref(trainer.model)
    del trainer
    gc.collect()
    assert gone() is None
    assert [watch.active for watch in kept] == [False, False]
