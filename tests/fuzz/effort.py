"""How many examples a fuzz test tries: few, and always the same ones, in the suite; many new ones in `make soak`."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("YOLO_CB_FUZZ", "0"))  # `make soak` sets how many times as many as in the suite


def effort(examples):
    """Return the settings of a test that tries so many examples in the suite."""
    return settings(
        max_examples=examples * max(1, TIMES),
        derandomize=not TIMES,
        deadline=None,
        database=None,
        print_blob=bool(TIMES),
        suppress_health_check=list(HealthCheck),
    )
