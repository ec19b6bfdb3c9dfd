"""Where the run screen's panels lie: nothing overlaps, and what is essential is there."""

from __future__ import annotations

from itertools import combinations

import pytest
from textual.geometry import Region

from halos_tui.run.layout import Needs, arrange

SIZES = [
    (width, height)
    for width in (*range(1, 30, 7), *range(40, 120, 9), 99, 100, 159, 160, 200, 300)
    for height in (*range(1, 12), *range(12, 60, 3), 59, 60, 90)
]
ALL = {
    "header",
    "stage",
    "rounds",
    "says",
    "rewards",
    "distribution",
    "curves",
    "machine",
    "notices",
    "events",
}


@pytest.mark.parametrize(
    "needs",
    [
        Needs(2),
        Needs(4, num_notices=0),
        Needs(5, num_header_lines=3, num_devices=8),
        Needs(9, num_header_lines=9),
    ],
    ids=str,
)
def test_panels_lie_inside_and_never_over_each_other(needs: Needs) -> None:
    for width, height in SIZES:
        places = arrange(width, height, needs)
        screen = Region(0, 0, width, height)

        assert "header" in places, (width, height)
        for name, region in places.items():
            assert region.width > 0, (name, width, height)
            assert region.height > 0, (name, width, height)
            assert screen.contains_region(region), (name, region, width, height)
        for (one, first), (other, second) in combinations(places.items(), 2):
            assert not first.overlaps(second), (one, other, width, height)


def test_a_small_terminal_has_what_one_needs_to_know() -> None:
    places = arrange(80, 23, Needs(4, num_notices=0))

    assert set(places) == {"header", "stage", "rounds", "says", "rewards", "curves", "events"}
    assert places["rounds"].height >= 6  # with a title and a heading
    assert places["says"].height == 5  # with its title: then, now, best and worst
    assert places["events"].height == 2


@pytest.mark.parametrize("size", [(120, 39), (200, 59), (100, 30), (160, 44), (80, 50)])
def test_a_larger_one_has_everything(size: tuple[int, int]) -> None:
    assert set(arrange(*size, Needs())) == ALL


def test_six_curves_find_room_on_the_largest() -> None:
    curves = arrange(200, 59, Needs())["curves"]

    assert curves.width >= 3 * 32
    assert curves.height >= 2 * 7


@pytest.mark.parametrize("width", range(64, 260, 5))
def test_the_more_lines_the_more_rounds(width: int) -> None:
    heights = [arrange(width, height, Needs())["rounds"].height for height in range(14, 100, 14)]

    assert heights[-1] > heights[0]


def test_nothing_is_shown_where_there_is_nothing() -> None:
    assert arrange(0, 0, Needs()) == {}


@pytest.mark.parametrize("size", [(80, 23), (100, 29), (120, 39), (160, 47), (200, 59)])
@pytest.mark.parametrize("num_devices", [1, 8])
def test_without_warnings_their_room_goes_to_a_neighbour(
    size: tuple[int, int], num_devices: int
) -> None:
    def covered(*, has_notices: bool) -> int:
        needs = Needs(4, num_devices=num_devices, num_notices=int(has_notices))
        places = arrange(*size, needs)
        assert ("notices" in places) <= has_notices
        return sum(region.area for region in places.values())

    # a row of charts has a gap of two columns between them
    assert covered(has_notices=False) >= covered(has_notices=True) - 2
