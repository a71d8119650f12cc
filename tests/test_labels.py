"""Labels of a picture's points: beside them, and on top of nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern.report.labels import place_labels

BOUNDS = (0.0, 0.0, 1000.0, 600.0)
RADIUS = 6.0
POINTS = st.lists(
    st.tuples(st.floats(50, 950), st.floats(50, 550)), min_size=1, max_size=12, unique=True
)


def overlap(one, other):
    return (
        min(one[2], other[2]) - max(one[0], other[0]) > 1e-9
        and min(one[3], other[3]) - max(one[1], other[1]) > 1e-9
    )


def around(point):
    x, y = point
    return x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS


def test_a_point_alone_has_its_label_at_its_right():
    (label,) = place_labels([(500, 300)], [(80, 12)], RADIUS, BOUNDS, 100)
    assert label.leader is None
    assert label.box == pytest.approx((507.2, 294, 587.2, 306))


def test_at_the_right_edge_it_is_elsewhere():
    (label,) = place_labels([(990, 300)], [(80, 12)], RADIUS, BOUNDS, 100)
    assert label.box[2] <= 1000


def test_it_keeps_off_the_line():
    (label,) = place_labels([(500, 300)], [(80, 12)], RADIUS, BOUNDS, 300)
    assert not label.box[1] < 300 < label.box[3]


def test_what_is_farther_away_has_a_line_from_its_point():
    points = [(500 + 14 * i, 300) for i in range(6)]
    labels = place_labels(points, [(90, 12)] * 6, RADIUS, BOUNDS, 100)
    assert any(label.leader is not None for label in labels)
    for point, label in zip(points, labels, strict=True):
        if label.leader is not None:
            assert label.leader[0] == point


@given(POINTS, st.floats(50, 550))
def test_nothing_is_covered_where_there_is_room(points, line_y):
    points = [
        point
        for i, point in enumerate(points)
        if not any(overlap(around(point), around(other)) for other in points[:i])
    ]
    labels = place_labels(points, [(60, 12)] * len(points), RADIUS, BOUNDS, line_y)
    boxes = [label.box for label in labels]
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    for box, point in itertools.product(boxes, points):
        assert not overlap(box, around(point))
    for box in boxes:
        assert 0 <= box[0] < box[2] <= 1000
        assert 0 <= box[1] < box[3] <= 600


def test_where_there_is_no_room_there_is_still_a_place():
    points = [(10.0 + i, 10.0) for i in range(30)]
    labels = place_labels(points, [(90, 30)] * 30, RADIUS, (0, 0, 100, 40), 10)
    assert len(labels) == 30
