"""Where labels go so that they cover neither points nor each other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_DISTANCES = (0.7, 2.5, 4.0, 6.0, 9.0, 13.0)
"""From a point to its label, in radii of a point."""

_DOTS = 12
"""Of a line that leads to a label."""

_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225)
"""In degrees, the best liked first."""


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

    def nearest(self, point: tuple[float, float]) -> tuple[float, float]:
        """The place in the rectangle that is nearest to a point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
    radius: float,
) -> list[Box | None]:
    """Puts each label into the first free place around its anchor, the first label first.

    Labels and the lines that lead to them do not cover other labels.

    Args:
        anchors: The point that each label belongs to.
        sizes: Each label's width and height.
        obstacles: What no label may cover, the points among them.
        frame: What all labels stay inside.
        radius: Of a point; labels keep that distance from their anchor's centre, or a few times it.

    Returns:
        Each label's box; None where there is no room.
    """
    taken = list(obstacles)
    places: list[Box | None] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        labels = [place for place in places if place]
        free = (
            box
            for box in _candidates(anchor, size, radius)
            if frame.contains(box)
            and not any(map(box.overlaps, taken))
            and not any(dot.overlaps(label) for dot in _leader(anchor, box) for label in labels)
        )
        place = next(free, None)
        places.append(place)
        taken += [place, *_leader(anchor, place)] if place else []
    return places


def _candidates(anchor: tuple[float, float], size: tuple[float, float], radius: float) -> Iterator[Box]:
    """Boxes around an anchor whose nearest edge or corner lies at growing distances from it."""
    for distance in _DISTANCES:
        for degrees in _ANGLES:
            cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            x = anchor[0] + radius * (1 + distance) * cosine + size[0] / 2 * _sign(cosine)
            y = anchor[1] + radius * (1 + distance) * sine + size[1] / 2 * _sign(sine)
            yield Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def _leader(anchor: tuple[float, float], box: Box) -> list[Box]:
    """The line from an anchor to the nearest place of a label, as dots."""
    end = box.nearest(anchor)
    shares = [step / _DOTS for step in range(_DOTS + 1)]
    centres = [(anchor[0] + s * (end[0] - anchor[0]), anchor[1] + s * (end[1] - anchor[1])) for s in shares]
    return [Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in centres]


def _sign(value: float) -> int:
    return 0 if abs(value) < 1e-9 else int(math.copysign(1, value))
