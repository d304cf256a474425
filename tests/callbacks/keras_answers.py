"""What Keras's own EarlyStopping and ReduceLROnPlateau answer to random curves: the table that ours are compared with.

The curves and settings come from a seed, here and in the test; the table, `keras_answers.json`, holds the answers, the
version of Keras that gave them, and a checksum of the questions. To make it anew, in an environment of its own:

    python -m venv keras && keras/bin/pip install "keras==3.15.*" scipy jax
    KERAS_BACKEND=numpy keras/bin/python tests/callbacks/keras_answers.py
"""

import hashlib
import json
import random
from pathlib import Path

TABLE = Path(__file__).with_suffix(".json")
SEED, CURVES = 20_260, 1_500  # of curves for each of the two callbacks
GRID = 64  # values are whole multiples of 1 / GRID, and so are the sums that are compared: nothing is rounded anywhere
FIRST_RATE, FACTOR = 1.0, 0.5


def questions(name):
    """Return (settings, curve) of every case of one callback, the same on every machine and Python."""
    draw = random.Random(f"{SEED} {name}").random  # the one method whose sequence Python guarantees

    def pick(*items):
        return items[int(draw() * len(items))]

    return [_question(name, draw, pick) for _ in range(CURVES)]


def _question(name, draw, pick):
    mode, length = pick("max", "min"), 1 + int(60 * draw())
    lowest = 1 if mode == "max" else -GRID  # a score of 0 is no plateau here: the model has not begun to learn
    towards, value = pick(0, 1, 1, 3) * (1 if mode == "max" else -1), lowest + int(draw() * (GRID - lowest))
    noise, curve = pick(0, 2, 6, 20), []
    for _ in range(length):
        curve.append(min(GRID, max(lowest, value + int(noise * (draw() - draw())))))
        value += int(towards * draw() * 2)
    settings = {"mode": mode, "min_delta": pick(0, 0, 1, 3) / GRID, "patience": 1 + int(8 * draw())}
    if name == "EarlyStopping":
        settings["baseline"] = pick(None, lowest + int(draw() * (GRID - lowest))) if draw() < 0.7 else None
        settings["baseline"] = None if settings["baseline"] is None else settings["baseline"] / GRID
        settings["start_from_epoch"] = pick(0, 0, 1, 5)
    else:
        settings |= {"factor": FACTOR, "cooldown": pick(0, 0, 1, 2, 4), "min_lr": pick(0.0, 0.125, 0.15625)}
    return settings, [value / GRID for value in curve]


def checksum():
    """Return what tells whether a table belongs to these questions."""
    asked = [questions(name) for name in ("EarlyStopping", "ReduceLROnPlateau")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _ask(keras):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(FIRST_RATE), "mse")
    stops, rates = [], []
    for settings, curve in questions("EarlyStopping"):
        stops.append(next((epoch for epoch, _ in _fit(model, keras.callbacks.EarlyStopping, settings, curve)), 0))
    for settings, curve in questions("ReduceLROnPlateau"):
        changes = [*_fit(model, keras.callbacks.ReduceLROnPlateau, settings, curve)]
        rates.append([item for change in changes for item in change])
    return {"EarlyStopping": stops, "ReduceLROnPlateau": rates}


def _fit(model, cls, settings, curve):
    """Send a callback the events of a training; yield (epoch, rate) where it stops or changes the learning rate."""
    model.stop_training, model.optimizer.learning_rate = False, FIRST_RATE
    callback, rate = cls("score", **settings), FIRST_RATE
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(curve):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"score": value})
        now = float(model.optimizer.learning_rate)
        if model.stop_training or now != rate:
            rate = now
            yield epoch + 1, rate
        if model.stop_training:
            break
    callback.on_train_end()


if __name__ == "__main__":
    import keras

    about = {"keras": keras.__version__, "backend": keras.backend.backend(), "seed": SEED, "questions": checksum()}
    TABLE.write_text(json.dumps({**about, **_ask(keras)}, separators=(",", ":")) + "\n", encoding="utf-8")
