"""The verdict on an export: whether the file scores, or computes, the same as its checkpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_VALUES_AGREE = 0.99  # of the numbers: a fault in one level of a pyramid spoils more
_CHOICES_AGREE = 0.5  # of the choices; those between nearly equal scores may differ, a fault spoils nearly all


def verdict(outcome: Mapping[str, Any], tolerance: float | None) -> tuple[str | None, str | None]:
    """Judge an export.

    Args:
        outcome: The result of `yolo_callbacks.exports.worker`.
        tolerance: The largest accepted difference in fitness; None skips the verification.

    Returns:
        Why the export is rejected, or None; and a further note, or None.

    Example:
        >>> measured = lambda fitness: {"metrics": {"fitness": fitness}, "names": {"0": "cat"}}
        >>> verdict({"file": "x.onnx", "exported": measured(0.4), "reference": measured(0.5)}, 0.005)[0]
        "its fitness is 0.40000, the checkpoint's 0.50000: they differ by more than 0.005"
    """
    if outcome.get("error"):
        unverified = outcome.get("file") and tolerance is not None
        return str(outcome["error"]), "export_tolerance=None exports without verification" if unverified else None
    if tolerance is None:
        return None, "not validated, because export_tolerance=None"
    exported, reference = outcome["exported"], outcome["reference"]
    error = _difference(exported, reference, tolerance)
    zero = error is None and not exported["metrics"]["fitness"] and not reference["metrics"]["fitness"]
    return error, "the fitness of both is 0, so their agreement proves little" if zero else None


def _difference(exported: Mapping[str, Any], reference: Mapping[str, Any], tolerance: float) -> str | None:
    """Return how an exported file differs from its checkpoint; None if it matches."""
    mine, theirs = exported["metrics"].get("fitness"), reference["metrics"].get("fitness")
    if mine is None or theirs is None:
        return f"{'the fitness of the checkpoint' if theirs is None else 'its fitness'} is not a number"
    if exported["names"] != reference["names"]:
        return f"its classes are {exported['names']}, those of the checkpoint {reference['names']}"
    if abs(mine - theirs) > tolerance:
        return f"its fitness is {mine:.5f}, the checkpoint's {theirs:.5f}: they differ by more than {tolerance:g}"
    return None


def outputs_verdict(outcome: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Judge an export by its outputs, as `verdict` does by its fitness.

    Args:
        outcome: The result of `yolo_callbacks.exports.worker` for a request with `outputs`.

    Example:
        >>> agreement = {"shape": [1, 84, 8400], "agreement": 0.123, "chosen": False}
        >>> outcome = {"outputs": {"finite": True, "agreements": [agreement], "reduced": False}}
        >>> outputs_verdict(outcome)[0]
        "only 12.3 % of its output of shape 1x84x8400 agrees with the checkpoint's, instead of at least 99 %"
    """
    if outcome.get("error"):
        return str(outcome["error"]), None
    outputs = outcome["outputs"]
    if not outputs["finite"]:
        return "its outputs have NaN or infinite values, and the checkpoint's have none", None
    if outputs["reduced"]:
        return None, "its outputs are not compared, because its precision is reduced"
    if not outputs["agreements"]:
        return None, "its outputs are not compared, because this format arranges them in its own way"
    for item in outputs["agreements"]:
        needed = _CHOICES_AGREE if item["chosen"] else _VALUES_AGREE
        if item["agreement"] < needed:
            shape = "x".join(map(str, item["shape"]))
            return (
                f"only {100 * item['agreement']:.3g} % of its output of shape {shape} agrees with the checkpoint's, "
                f"instead of at least {100 * needed:g} %",
                None,
            )
    return None, None


def comparison(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics and speed of the checkpoint and the exported file side by side, as far as known."""
    exported, reference = outcome.get("exported") or {}, outcome.get("reference") or {}
    mine, theirs = exported.get("metrics") or {}, reference.get("metrics") or {}
    both = [name for name in theirs if mine.get(name) is not None and theirs[name] is not None]
    return {
        "metrics": {
            "pt": theirs or None,
            "exported": mine or None,
            "difference": {name: mine[name] - theirs[name] for name in both} or None,
        },
        "latency_ms": {"pt": reference.get("latency_ms"), "exported": exported.get("latency_ms")},
        "imgsz": exported.get("imgsz"),
        "device": exported.get("device"),
    }


def in_short(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an export's entry in `run.json`."""
    fitness = {side: (item["metrics"][side] or {}).get("fitness") for side in ("pt", "exported")}
    short = {key: item[key] for key in ("format", "file", "passed", "error", "note", "bytes", "sha256")}
    return {**short, "from": item["from"]["file"], "epoch": item["from"]["epoch"], "fitness": fitness}


def in_words(item: Mapping[str, Any]) -> str:
    """Return how an exported file compares with its checkpoint, as the end of a sentence; empty if unknown."""
    exported, reference = item["metrics"]["exported"], item["metrics"]["pt"]
    if not exported:
        return ""
    speeds = [item["latency_ms"][side]["inference"] for side in ("exported", "pt")]
    return (
        f", verified: fitness {exported['fitness']:.5f} (.pt {reference['fitness']:.5f}), "
        f"{speeds[0]:.1f} ms per image (.pt {speeds[1]:.1f} ms)"
    )
