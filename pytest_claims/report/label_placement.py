"""Where labels go so that they cover neither points nor each other."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_DISTANCES = (0.7, 2.5, 4.0, 6.0, 9.0, 13.0)
"""From a point to its label, in radii of a point."""

_ORDERS = 12
"""In which labels are tried to be placed."""

_LEAVES = 1.5
"""Radii of a point from its centre to where a line leaves it."""

_SQUARES = 12
"""That stand for a line."""

_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200, 65, 295, 115, 245)
"""In degrees, the best liked first."""


Point: TypeAlias = tuple[float, float]
"""x and y, or width and height."""


@dataclass(frozen=True)
class Box:
    """A rectangle in any unit, its y axis upward."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share more than an edge."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def contains(self, other: "Box") -> bool:
        """Whether all of the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )

    def nearest(self, point: Point) -> Point:
        """The place in the rectangle that is nearest to a point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)

    def distance(self, point: Point) -> float:
        """From a point to the rectangle; 0 inside."""
        return math.dist(point, self.nearest(point))


def place_labels(
    anchors: Sequence[Point],
    sizes: Sequence[Point],
    points: Sequence[Point],
    lines: Sequence[Box],
    frame: Box,
    radius: float,
) -> list[Box | None]:
    """Puts labels where they cover nothing: each into the first good place around its anchor, or nowhere.

    A place is good if neither the label nor the line that leads to it covers anything, and if a label beside a point
    is nearer to its own than to any other. Labels are placed in several random orders, the
    same ones each time; the one that leaves the fewest out,
    and then the labels nearest to their points, is kept.

    Args:
        anchors: The point that each label belongs to, one of `points`.
        sizes: Each label's width and height.
        points: All points, those without a label among them.
        lines: What else may not be covered, as `line_boxes` gives it.
        frame: What all labels stay inside.
        radius: Of a point.

    Returns:
        Each label's box; None where there is no room.
    """
    scene = _Scene(points, lines, frame, radius)
    labels = [_Label(index, *label) for index, label in enumerate(zip(anchors, sizes, strict=True))]
    shuffle = random.Random(0)
    orders = [shuffle.sample(labels, len(labels)) for _ in range(_ORDERS)]
    placed = min((_place_in_order(order, scene) for order in orders), key=lambda places: _cost(places, labels))
    return [placed.get(label.index) for label in labels]


@dataclass(frozen=True)
class _Scene:
    points: Sequence[Point]
    lines: Sequence[Box]
    frame: Box
    radius: float


@dataclass(frozen=True)
class _Label:
    index: int
    anchor: Point
    size: Point


def _place_in_order(labels: Sequence[_Label], scene: _Scene) -> dict[int, Box]:
    taken = [*(_around(point, scene.radius) for point in scene.points), *scene.lines]
    places: dict[int, Box] = {}
    for label in labels:
        others = [box for box in taken if not box.contains(_around(label.anchor, 0))]
        for box in _candidates(label, scene.radius):
            if scene.frame.contains(box) and not any(map(box.overlaps, taken)) and _is_clear(box, label, others, scene):
                places[label.index] = box
                taken += [box, *_leader(label.anchor, box, scene.radius)]
                break
    return places


def _is_clear(box: Box, label: _Label, others: Sequence[Box], scene: _Scene) -> bool:
    """Whether a label does not seem to be another point's, and the line to it crosses nothing."""
    if is_beside(box, label.anchor, scene.radius):
        rivals = (box.distance(point) for point in scene.points if point != label.anchor)
        return min(rivals, default=math.inf) >= box.distance(label.anchor) + scene.radius
    leader = _leader(label.anchor, box, scene.radius)
    return not any(square.overlaps(other) for square in leader for other in others)


def _cost(places: Mapping[int, Box], labels: Sequence[_Label]) -> tuple[int, float]:
    away = sum(places[label.index].distance(label.anchor) for label in labels if label.index in places)
    return len(labels) - len(places), away


def is_beside(box: Box, anchor: Point, radius: float) -> bool:
    """Whether a label is so near to its anchor that it needs no line to it."""
    return box.distance(anchor) <= (_DISTANCES[0] + 1.01) * radius


def line_boxes(start: Point, end: Point) -> list[Box]:
    """A line as a row of squares without gaps."""
    half = math.dist(start, end) / _SQUARES / 2
    shares = [step / _SQUARES for step in range(_SQUARES + 1)]
    return [_around((start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1])), half) for s in shares]


def _around(point: Point, radius: float) -> Box:
    return Box(point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius)


def _leader(anchor: Point, box: Box, radius: float) -> list[Box]:
    """The line to the nearest place of a label, from where it leaves its point, which others may touch."""
    end = box.nearest(anchor)
    share = min(1.0, _LEAVES * radius / math.dist(anchor, end))
    start = (anchor[0] + share * (end[0] - anchor[0]), anchor[1] + share * (end[1] - anchor[1]))
    return line_boxes(start, end)


def _candidates(label: _Label, radius: float) -> Iterator[Box]:
    """Boxes around an anchor whose nearest edge or corner lies at growing distances from it."""
    (x, y), (width, height) = label.anchor, label.size
    for distance in _DISTANCES:
        for degrees in _ANGLES:
            cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            middle_x = x + radius * (1 + distance) * cosine + width / 2 * _sign(cosine)
            middle_y = y + radius * (1 + distance) * sine + height / 2 * _sign(sine)
            yield Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2)


def _sign(value: float) -> int:
    return 0 if abs(value) < 1e-9 else int(math.copysign(1, value))
