"""Where the labels of a picture's points go, so that nothing is covered. Numbers are pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

_NEAR = 1.5
"""Radii: a label that is not farther away needs no line."""
_STEPS = 24
_PARTS = 16
"""Of a line: where it is asked what it crosses."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label's place, and the line that leads there from its point; none if that is beside it."""

    box: Box
    leader: tuple[Point, Point] | None


def place_labels(
    points: Sequence[Point], sizes: Sequence[Point], radius: float, bounds: Box, crossing_y: float
) -> list[Label]:
    """Labels of these widths and heights, in the order of their points.

    They keep to the nearest place within the bounds that covers no point of that radius, no other
    label, no line to one, and not the horizontal line at `crossing_y`, nor leads its own line
    through one of the first three; and to the least bad place if there is none. Large ones choose
    first.
    """
    taken = [_around(point, radius) for point in points]
    horizontal = (bounds[0], crossing_y - 0.2 * radius, bounds[2], crossing_y + 0.2 * radius)
    found: dict[int, Label] = {}
    for i in sorted(range(len(points)), key=lambda i: (-sizes[i][1], points[i][1], points[i][0])):
        best: tuple[float, Box, float] | None = None
        for distance, box in _places(points[i], sizes[i], radius):
            line = _line(points[i], _nearest(points[i], box))
            bad = sum(_overlap(box, other) + _crossed(line, other) for other in taken)
            bad += _overlap(box, horizontal) + _outside(box, bounds)
            if best is None or bad < best[0]:
                best = bad, box, distance
            if bad == 0:
                break
        assert best is not None
        _, box, distance = best
        taken.append(box)
        found[i] = Label(box, None)
        if distance > _NEAR * radius:
            line = _line(points[i], _nearest(points[i], box))
            taken += [_around(point, 0.2 * radius) for point in line]
            found[i] = Label(box, (line[0], line[-1]))
    return [found[i] for i in range(len(points))]


def _places(point: Point, size: Point, radius: float) -> Iterator[tuple[float, Box]]:
    """Distances and boxes: right of the point first, and around it, farther and farther."""
    (x, y), (width, height) = point, size
    for step in range(_STEPS):
        distance = radius * (1.2 + 0.8 * step)
        for turn in (0, 1, 7, 4, 3, 5, 2, 6):
            angle = turn * math.pi / 4
            left = x + math.cos(angle) * (distance + width / 2) - width / 2
            bottom = y + math.sin(angle) * (distance + height / 2) - height / 2
            yield distance, (left, bottom, left + width, bottom + height)


def _around(point: Point, radius: float) -> Box:
    return point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius


def _nearest(point: Point, box: Box) -> Point:
    """Of the box."""
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _line(start: Point, end: Point) -> list[Point]:
    """Points from one to the other."""
    (x, y), (to_x, to_y) = start, end
    shares = [i / _PARTS for i in range(_PARTS + 1)]
    return [(x + share * (to_x - x), y + share * (to_y - y)) for share in shares]


def _crossed(line: Sequence[Point], box: Box) -> int:
    """How many of its points lie in the box, if it does not begin there."""
    inside = [box[0] < x < box[2] and box[1] < y < box[3] for x, y in line]
    return 0 if inside[0] else sum(inside)


def _overlap(one: Box, other: Box) -> float:
    """Of their areas."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Box, bounds: Box) -> float:
    inside = bounds[0] <= box[0] and bounds[1] <= box[1] and box[2] <= bounds[2]
    if inside and box[3] <= bounds[3]:
        return 0.0
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, bounds)
