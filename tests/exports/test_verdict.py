"""Which exports are rejected, and what is said of the others."""

import pytest

from yolo_callbacks.exports.verdict import comparison, verdict

NAMES = {"0": "cat", "1": "dog"}


def measured(fitness, names=NAMES, **metrics):
    return {
        "metrics": {**metrics, "fitness": fitness},
        "names": names,
        "latency_ms": {"preprocess": 0.1, "inference": 2.0, "postprocess": 0.3},
        "imgsz": 64,
        "device": "cpu",
    }


def outcome(mine, theirs, **fields):
    return {"file": "x.onnx", "exported": measured(mine), "reference": measured(theirs), **fields}


@pytest.mark.parametrize(
    ("told", "tolerance", "why"),
    [
        (outcome(0.5, 0.5), 0.0, None),
        (outcome(0.504, 0.5), 0.005, None),
        (outcome(0.494, 0.5), 0.005, "its fitness is 0.49400, the checkpoint's 0.50000: they differ by more"),
        (outcome(0.506, 0.5), 0.005, "differ by more than 0.005"),  # better is not the same either
        (outcome(0.494, 0.5), 0.01, None),
        (outcome(None, 0.5), 0.5, "its fitness is not a number"),
        (outcome(0.5, None), 0.5, "the fitness of the checkpoint is not a number"),
        ({**outcome(0.5, 0.5), "exported": measured(0.5, {"0": "dog", "1": "cat"})}, 0.5, "its classes are"),
        (outcome(0.5, 0.5, error="it broke"), 0.5, "it broke"),
        ({"error": "its process was killed by SIGSEGV"}, 0.5, "SIGSEGV"),
        ({"file": "x.onnx"}, None, None),
    ],
)
def test_what_is_rejected(told, tolerance, why):
    error, _ = verdict(told, tolerance)
    assert (error is None) if why is None else (why in error)


def test_an_agreement_of_zeros_is_noted():
    assert "proves little" in verdict(outcome(0.0, 0.0), 0.005)[1]
    assert verdict(outcome(0.1, 0.1), 0.005)[1] is None
    assert "not validated" in verdict({"file": "x.onnx"}, None)[1]
    assert "without verification" in verdict({"file": "x.onnx", "error": "no such data"}, 0.005)[1]
    assert verdict({"error": "it cannot be exported"}, 0.005)[1] is None


def test_metrics_side_by_side():
    told = {"exported": measured(0.25, rmse=None, a=1.0), "reference": measured(0.5, rmse=2.0, a=1.0)}
    assert comparison(told)["metrics"]["difference"] == {"a": 0.0, "fitness": -0.25}
    assert comparison({"error": "x"})["metrics"] == {"pt": None, "exported": None, "difference": None}
