"""Seeded scenes of simple shapes, drawn with OpenCV: an image and the exact geometry of everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASS_NAMES = ("circle", "triangle", "square", "star")
KEYPOINT_NAMES = ("center", "tip", "left", "right")

_GRAYS = (60, 190)  # the darkest and the lightest gray of a background

# Unit outlines, radius 1, tip pointing up (-y): the same four keypoints make sense on each of them.
_TURN = 2 * np.pi


def _regular_polygon(corners: int, first_angle: float) -> NDArray[np.float64]:
    angles = first_angle + np.arange(corners) * _TURN / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star(points: int, inner_radius: float) -> NDArray[np.float64]:
    outline = _regular_polygon(2 * points, -_TURN / 4)
    outline[1::2] *= inner_radius
    return outline


_OUTLINES: dict[str, NDArray[np.float64]] = {
    "circle": _regular_polygon(48, -_TURN / 4),
    "triangle": _regular_polygon(3, -_TURN / 4),
    "square": _regular_polygon(4, -_TURN / 8),
    "star": _star(5, 0.42),
}


@dataclass(frozen=True)
class Shape:
    """One object of a scene, in pixels.

    Attributes:
        cls: Index into the class names.
        outline: Corners of the visible outline, shape (N, 2), x and y, clipped to the image.
        box: Axis-aligned bounds (x1, y1, x2, y2).
        corners: Corners of the rotated box, shape (4, 2), clipped to the image.
        keypoints: Shape (4, 3): x, y and visibility (2 visible, 0 outside of the image), in the order of
            `KEYPOINT_NAMES`.
        distance: Meters to the camera, 1.25 to 3: the larger, the nearer.
    """

    cls: int
    outline: NDArray[np.float64]
    box: tuple[float, float, float, float]
    corners: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    distance: float


@dataclass(frozen=True)
class Scene:
    """An image and the geometry of everything in it.

    Attributes:
        image: The image, shape (size, size, 3), BGR.
        shapes: The shapes, in the order in which they were painted.
        backdrop: Meters to the background, shape (size, size), 4 to 40: the lighter, the nearer. Shapes are nearer.
    """

    image: NDArray[np.uint8]
    shapes: tuple[Shape, ...]
    backdrop: NDArray[np.float64]


def draw_scene(
    rng: np.random.Generator,
    *,
    size: int = 128,
    max_objects: int = 3,
    noise: float = 12.0,
    class_names: tuple[str, ...] = CLASS_NAMES,
) -> Scene:
    """Draw one scene: a shaded background, `1..max_objects` shapes that hardly overlap, and sensor noise.

    Args:
        rng: Source of all randomness; the same state draws the same scene.
        size: Side of the square image in pixels, at least 32.
        max_objects: The most shapes in one scene, at least 1.
        noise: Standard deviation of the Gaussian pixel noise, in gray levels (0..255).
        class_names: One name per class, any number of them. Class i is drawn with outline `i % 4`.

    Returns:
        The scene.

    Example:
        >>> scene = draw_scene(np.random.default_rng(0), size=64)
        >>> scene.image.shape
        (64, 64, 3)
    """
    canvas = _background(rng, size)
    backdrop = _backdrop(canvas)
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(1, max_objects + 1))):
        cls = int(rng.integers(len(class_names)))
        placed = _place(rng, size, [shape.box for shape in shapes])
        if placed is None:
            break
        shape = _shape(rng, cls, size, *placed)
        _paint(rng, canvas, shape)
        shapes.append(shape)
    noisy = canvas.astype(np.float64) + rng.normal(0.0, noise, canvas.shape)
    return Scene(np.clip(noisy, 0, 255).astype(np.uint8), tuple(shapes), backdrop)


def _background(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Enlarge a few random grays to a soft gradient, so that brightness alone reveals no shape."""
    seedling = rng.integers(*_GRAYS, size=(3, 3, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(seedling, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _backdrop(background: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the distances of a background lit from beside the camera: the darkest is ten times as far."""
    darkest, lightest = _GRAYS
    darkness = (lightest - background.mean(axis=2)) / (lightest - darkest)
    return np.asarray(4.0 * 10.0 ** np.clip(darkness, 0.0, 1.0), dtype=np.float64)


def _place(
    rng: np.random.Generator, size: int, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, float] | None:
    """Find a center and a radius whose bounds touch no taken box; None if the image is full."""
    for _ in range(20):
        radius = float(rng.uniform(0.10, 0.24)) * size
        x, y = (float(v) for v in rng.uniform(0.8 * radius, size - 0.8 * radius, size=2))
        if not any(
            x - radius < x2 and x + radius > x1 and y - radius < y2 and y + radius > y1 for x1, y1, x2, y2 in taken
        ):
            return x, y, radius
    return None


def _shape(rng: np.random.Generator, cls: int, size: int, x: float, y: float, radius: float) -> Shape:
    """Rotate, scale and place the outline of a class."""
    unit = _OUTLINES[CLASS_NAMES[cls % len(CLASS_NAMES)]]
    angle = float(rng.uniform(-_TURN / 12, _TURN / 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(points @ turn.T * radius + (x, y), dtype=np.float64)

    outline = np.clip(to_pixels(unit), 0, size - 1)
    (left, top), (right, bottom) = unit.min(axis=0), unit.max(axis=0)
    corners = np.clip(to_pixels(np.array([[left, top], [right, top], [right, bottom], [left, bottom]])), 0, size - 1)
    points = to_pixels(np.array([[0.0, 0.0], [0.0, top], [left, bottom], [right, bottom]]))
    visible = 2.0 * ((points >= 0) & (points < size)).all(axis=1)
    (x1, y1), (x2, y2) = outline.min(axis=0), outline.max(axis=0)
    return Shape(
        cls=cls,
        outline=outline,
        box=(float(x1), float(y1), float(x2), float(y2)),
        corners=corners,
        keypoints=np.column_stack([points, visible]),
        distance=0.3 * size / radius,
    )


def _paint(rng: np.random.Generator, canvas: NDArray[np.uint8], shape: Shape) -> None:
    """Fill a shape with a color that contrasts with the background."""
    x, y = shape.keypoints[0, :2].astype(int).clip(0, canvas.shape[0] - 1)
    under = canvas[y, x].astype(int)
    color = np.where(under > 125, rng.integers(0, 70, 3), rng.integers(185, 256, 3))
    points = np.rint(shape.outline).astype(np.int32)
    cv2.fillPoly(canvas, [points], [int(c) for c in color], lineType=cv2.LINE_AA)
    cv2.polylines(canvas, [points], True, [int(c) for c in 255 - color], 1, cv2.LINE_AA)
