from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.report.label_placement import Box, is_beside, line_boxes, place_labels

FRAME = Box(0, 0, 400, 300)
RADIUS = 5.0

points = st.tuples(st.integers(0, 400), st.integers(0, 300)).map(lambda point: (float(point[0]), float(point[1])))


@given(st.lists(points, min_size=1, max_size=12, unique=True))
@settings(deadline=None, max_examples=25)
def test_labels_cover_no_point_no_label_and_stay_inside(anchors):
    places = place_labels(anchors, [(70.0, 12.0)] * len(anchors), anchors, [], FRAME, RADIUS)
    assert len(places) == len(anchors)
    placed = [place for place in places if place]
    assert all(FRAME.contains(place) for place in placed)
    assert not any(first.overlaps(second) for first, second in combinations(placed, 2))
    for place in placed:
        assert all(place.distance(point) >= RADIUS - 1e-9 for point in anchors)


@given(st.lists(points, min_size=2, max_size=12, unique=True))
@settings(deadline=None, max_examples=25)
def test_a_label_beside_a_point_is_nearest_to_its_own(anchors):
    places = place_labels(anchors, [(70.0, 12.0)] * len(anchors), anchors, [], FRAME, RADIUS)
    for anchor, place in zip(anchors, places, strict=True):
        if place and is_beside(place, anchor, RADIUS):
            assert min(anchors, key=place.distance) == anchor


def test_a_lone_label_stands_to_the_right_of_its_point():
    (place,) = place_labels([(100.0, 100.0)], [(40.0, 10.0)], [(100.0, 100.0)], [], FRAME, RADIUS)
    assert place is not None
    assert (place.bottom + place.top) / 2 == 100
    assert 105 < place.left < 115
    assert is_beside(place, (100.0, 100.0), RADIUS)


def test_labels_do_not_cover_lines():
    lines = line_boxes((100.0, 100.0), (300.0, 100.0))
    (place,) = place_labels([(100.0, 100.0)], [(40.0, 10.0)], [(100.0, 100.0)], lines, FRAME, RADIUS)
    assert place is not None
    assert not any(place.overlaps(line) for line in lines)


def test_a_label_without_room_is_left_out():
    frame = Box(0, 0, 50, 50)
    assert place_labels([(25.0, 25.0)], [(48.0, 40.0)], [(25.0, 25.0)], [], frame, RADIUS) == [None]


@given(points, points)
@settings(deadline=None, max_examples=25)
def test_a_line_has_no_gaps(start, end):
    squares = line_boxes(start, end)
    assert squares[0].distance(start) == 0
    assert squares[-1].distance(end) == 0
    for before, after in pairwise(squares):
        assert before.distance(((after.left + after.right) / 2, (after.bottom + after.top) / 2)) <= (
            before.right - before.left
        )
