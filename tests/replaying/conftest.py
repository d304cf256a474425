"""Several rules replayed over several runs."""

import pytest

import yolo_callbacks as ycb
from tests.replaying.logs import rise_and_fall, write_csv

PLAIN = {"warmup_epochs": 0, "close_mosaic": 0}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_csv(folder / "falls", rise_and_fall(5, 20), epochs=20, seconds=360, **PLAIN)
    write_csv(folder / "comes back", [*rise_and_fall(5, 10), *[0.6] * 10], epochs=20, seconds=None, **PLAIN)
    write_csv(folder / "rises", rise_and_fall(20, 20))
    (folder / "broken").mkdir()
    (folder / "broken" / "results.csv").touch()
    rules = {
        "patience 4": [ycb.EarlyStopping(patience=4)],
        "patience 50": ycb.EarlyStopping(patience=50),
        "reduce": [ycb.ReduceLROnPlateau(patience=4)],
        "finish": [ycb.EarlyStopping(patience=4, on_plateau="finish", finish_epochs=3)],
    }
    return ycb.replay(folder, rules)
