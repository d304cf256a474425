"""Names that every receiver takes."""

import posixpath
import re

from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.reporting.metric_names import fit_names, is_reserved

# mlflow.utils.validation and the clean-up of torch.utils.tensorboard.summary, together
ACCEPTED = re.compile(r"^[-/\w.]+$")


@given(st.lists(st.text(max_size=300)), st.sampled_from(["", "custom/", "mine", "a/b/", "_"]))
def test_names_are_accepted_everywhere_and_distinct(names, prefix):
    fitted = fit_names(names, prefix)
    assert len({name.lower() for name in fitted}) == len(names)
    for name in fitted:
        assert ACCEPTED.match(name)
        assert posixpath.normpath(name) == name
        assert name[0] not in "/._-"
        assert len(name) <= 250
        # no number is in a folder that is the file of another one
        assert not any(other.lower() == name.partition("/")[0].lower() for other in fitted if "/" in name)


def test_names_that_are_fine_stay_as_they_are():
    names = ["lr_factor", "mAP50-95/person", "loss.total"]
    assert fit_names(names, "custom/") == ("custom/lr_factor", "custom/mAP50-95_person", "custom/loss.total")
    assert fit_names(names) == tuple(names)


def test_names_of_the_integrations_are_known():
    assert all(map(is_reserved, ["epoch", "lr", "fitness", "Model/parameters", "metrics"]))
    assert not any(map(is_reserved, ["custom/lr", "lr_factor", "epochs", "metrics/F2"]))
