"""The picture of classes over epochs: what is in it, and that it can be drawn of anything."""

import numpy as np
import pytest
from matplotlib.image import imread

from tests.pictures.class_table import table
from yolo_callbacks.pictures.class_curves import read_curves
from yolo_callbacks.pictures.heatmap import draw_heat_map, render

ODD = ("person", "$100 $bill", "人/车 😀", "a_name{that} is far too long \\to be shown in a picture", "%s")


def words(figure):
    texts = [text for axis in figure.axes for text in (*axis.get_yticklabels(), *axis.texts)]
    return [figure.get_suptitle(), *(text.get_text() for text in texts)]


def test_the_best_class_stands_on_top_and_absent_ones_at_the_bottom(tmp_path):
    path = table(tmp_path, ["low", "ghost", "high"], [1, 2], lambda i, e: None if i == 1 else i * e / 10)
    figure = draw_heat_map(read_curves(path), "run")
    title, *labels = words(figure)
    assert labels[:6] == ["high", "low", "ghost", "0.400", "0.000", ""]
    assert title == "run · mAP50-95 by class · epoch 2 · 2 classes · 1 at 0 · 1 not in the validation set (hatched)"


def test_a_thousand_classes_are_the_best_the_worst_and_their_spread(tmp_path):
    path = table(
        tmp_path, range(1200), [1, 2, 3], lambda i, e: None if i >= 1100 else 0.0 if i < 30 else round(e * i / 5000, 5)
    )
    figure = draw_heat_map(read_curves(path))
    said = words(figure)
    shown = [label for label in said if label.isdigit()]
    assert shown == [*(str(i) for i in range(1099, 1079, -1)), *(str(i) for i in range(49, 29, -1))]
    assert "1030 more classes in between" in said
    assert "30 classes at 0" in said
    assert "100 classes do not occur in the validation set" in said
    assert figure.axes[0].get_title() == "All 1100 classes"
    assert figure.get_size_inches()[1] < 13


def test_a_thousand_classes_of_which_none_is_found_yet(tmp_path):
    figure = draw_heat_map(read_curves(table(tmp_path, range(150), [1], lambda i, e: float(i == 7) / 100)))
    shown = [label for label in words(figure) if label.isdigit()]
    assert len(shown) == 40
    assert shown[0] == "7"


def test_only_the_classes_that_are_asked_for(tmp_path):
    path = table(tmp_path, range(300), [1], lambda i, e: None if i == 5 else i / 300)
    figure = draw_heat_map(read_curves(path), only=("3", "5", "299"))
    assert [label for label in words(figure) if label.isdigit()] == ["299", "3", "5"]


@pytest.mark.parametrize(("names", "epochs"), [(ODD, 1), (ODD, 3), (range(150), 2)])
def test_a_picture_of_anything(tmp_path, names, epochs):
    path = table(tmp_path, names, range(1, epochs + 1), lambda i, e: None if i == 2 else 0.0)
    picture = tmp_path / "classes.png"
    render(path, picture)
    pixels = imread(picture)
    assert pixels.shape[1] == 1320
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 3
