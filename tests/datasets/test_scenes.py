"""Pictures of shapes, and where the shapes are in them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks.datasets.scenes import draw_scene


@given(st.integers(0, 10_000), st.integers(32, 200), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_geometry_is_in_the_picture_and_consistent(seed, size, max_objects):
    scene = draw_scene(np.random.default_rng(seed), size=size, max_objects=max_objects)
    assert scene.image.shape == (size, size, 3)
    assert 1 <= len(scene.shapes) <= max_objects
    for shape in scene.shapes:
        x1, y1, x2, y2 = shape.box
        assert 0 <= x1 < x2 < size
        assert 0 <= y1 < y2 < size
        assert shape.outline.min() >= 0
        assert shape.outline.max() < size
        assert np.allclose([*shape.outline.min(axis=0), *shape.outline.max(axis=0)], shape.box)
        assert set(shape.keypoints[:, 2]) <= {0.0, 2.0}


def test_the_label_is_where_the_shape_is():
    """Without noise, the pixels that differ from the same scene without its shapes lie inside the box."""
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), size=96, max_objects=1, noise=0)
        (shape,) = scene.shapes
        x, y = shape.outline.mean(axis=0).astype(int)
        inside = scene.image[y, x].astype(int)
        x1, y1, x2, y2 = shape.box
        outside = [
            scene.image[r, c].astype(int)
            for r, c in ((0, 0), (0, 95), (95, 0), (95, 95))
            if not (x1 - 2 <= c <= x2 + 2 and y1 - 2 <= r <= y2 + 2)
        ]
        assert all(np.abs(inside - pixel).max() > 30 for pixel in outside)


def test_the_lighter_background_is_nearer():
    scene = draw_scene(np.random.default_rng(0), size=96, noise=0)
    grey, far = scene.image.mean(axis=2), scene.backdrop
    bare = np.ones(far.shape, bool)
    for shape in scene.shapes:
        x1, y1, x2, y2 = (round(v) for v in shape.box)
        bare[max(0, y1 - 2) : y2 + 3, max(0, x1 - 2) : x2 + 3] = False
    assert np.corrcoef(grey[bare], np.log(far[bare]))[0, 1] < -0.99
