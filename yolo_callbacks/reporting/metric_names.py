"""Metric names that every receiver accepts: Ultralytics Platform, W&B, MLflow, TensorBoard, Comet, ClearML. Pure.

MLflow rejects all but letters, digits, `_`, `-`, `.`, `/`, spaces and sometimes `:`, names that are not clean paths,
and names of more than 250 characters; Ultralytics then stops tracking the run. MLflow keeps each metric in a file of
its name, so no name can be the folder of another. TensorBoard accepts no spaces, and W&B reserves names that begin
with `_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RESERVED = ("epoch", "fitness", "lr", "metrics", "model", "train", "val")  # names and folders of the integrations
_LENGTH = 200
_MLFLOW_LENGTH = 250


def is_reserved(name: str) -> bool:
    """Return whether an integration uses this name itself."""
    return name.lower() in _RESERVED or name.lower().startswith("model/")


def fit_names(names: Iterable[str], prefix: str = "") -> tuple[str, ...]:
    """Return unique names that every receiver accepts.

    The first `/` stays, since receivers group by it.

    Args:
        names: Any names.
        prefix: Prefix of each name.

    Example:
        >>> fit_names(["lr_factor", "mAP50-95/traffic light", "metrics/recall(B)", "a/b", "a b"], "custom/")
        ('custom/lr_factor', 'custom/mAP50-95_traffic_light', 'custom/metrics_recallB', 'custom/a_b', 'custom/a_b_2')
        >>> fit_names(["AP", "AP/person"])
        ('AP', 'AP_person')
    """
    wanted = [_fit(prefix + name) for name in names]
    alone = {name.lower() for name in wanted if "/" not in name}
    fitted: dict[str, None] = {}
    taken: set[str] = set()  # in lower case: file names may ignore case
    for name in wanted:
        plain = name.replace("/", "_") if name.partition("/")[0].lower() in alone else name
        number, free = 1, plain
        while free.lower() in taken:
            number += 1
            free = f"{plain}_{number}"
        taken.add(free.lower())
        fitted[free] = None
    return tuple(fitted)


def safe_name(metric: str) -> str:
    """Return a name that MLflow accepts: letters, digits and `_ - . / space`, a clean path.

    Brackets go, as in Ultralytics' own reports to MLflow; any other character becomes `_`.

    Example:
        >>> safe_name("metrics/mAP50-95(B)"), safe_name("mAP50-95/salt & pepper"), safe_name("recall/..")
        ('metrics/mAP50-95B', 'mAP50-95/salt _ pepper', 'recall/__')
    """
    name = re.sub(r"[^\w./ -]", "_", re.sub(r"[()]", "", metric))
    parts = (re.sub(r"^\.{0,2}$", lambda dots: "_" * max(1, len(dots[0])), part) for part in name.split("/"))
    return "/".join(parts)[:_MLFLOW_LENGTH].rstrip("/")


def _fit(name: str) -> str:
    parts = [re.sub(r"[^\w.\-]+", "_", part.replace("(", "").replace(")", "")) for part in name.split("/")]
    group, *rest = [part.lstrip("._-") or "number" for part in parts if part] or ["number"]
    return "/".join([group, *(["_".join(rest)] if rest else [])])[:_LENGTH]
