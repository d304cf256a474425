"""What a training in Python says at its start and its end."""

from yolo_callbacks import CSVLogger, PlotLogger
from yolo_callbacks.support.log import LOGGER


def test_a_training_says_what_is_attached_and_how_it_went(train, caplog):
    run = train([CSVLogger(), PlotLogger()], epochs=1, verbose=True, name="exp[/v1] [old] d$_$x")
    said = [item.getMessage() for item in caplog.records if item.name == LOGGER.name]
    assert said[0] == "Callbacks: CSVLogger, PlotLogger"
    (panel,) = (text for text in said if " yolo-callbacks " in text)
    assert "Best" in panel
    assert "completed 1 epoch" in panel
    assert "exp[/v1] [old] d$_$x" in panel
    assert "callbacks/ (curves.png, epochs.csv, run.json)" in panel
    assert repr(run).startswith("Attachment(CSVLogger, PlotLogger)\n  Best ")
    assert f'<td style="text-align: left">{run.save_dir}</td>' in run._repr_html_()
