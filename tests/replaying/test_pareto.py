"""The picture of what each rule saves and loses."""

import pytest

from yolo_callbacks.replaying.pareto import draw


@pytest.mark.parametrize("name", ["picture.svg", "picture.pdf", "deep/er.png"])
def test_a_picture(report, tmp_path, name):
    assert report.plot(tmp_path / name).stat().st_size > 5_000


def test_every_rule_has_its_name_in_the_picture_and_none_lies_on_another(report):
    figure = draw(report)
    (axis,) = figure.axes
    texts = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert set(texts) == {"patience 4", "patience 50", "reduce*", "finish*", "oracle: best", "oracle: -0.005"}
    boxes = list(texts.values())
    assert all(box.count_overlaps(boxes[:i]) == 0 for i, box in enumerate(boxes))
