"""Regions that come and grow, and never go: which ones each interval of a trace has."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from mempattern._checks import whole_number
from mempattern.errors import RegionError
from mempattern.regions import GROUP_PAGES, Region, check_regions, origins
from mempattern.trace.schema import MOST_INTERVALS, MOST_VERSIONS

MOST_PAGES = 1 << 36
"""Pages of all regions together: 256 TiB in pages of 4 KiB, more than any host has."""
_ADDRESSES = 1 << 64


def check_total(regions: Iterable[Region]) -> None:
    """Raises `RegionError` for more pages than any host has."""
    n_pages = sum(region.n_pages for region in regions)
    if n_pages > MOST_PAGES:
        raise RegionError(f"the regions have {n_pages} pages in all; a trace holds up to 2**36")


def check_following(was: tuple[Region, ...], now: tuple[Region, ...]) -> None:
    """Raises `RegionError` unless every region is still in its place, grown at most."""
    check_total(check_regions(now))
    came_from = [old for old, _ in origins(was, now, GROUP_PAGES)]
    if came_from[: len(was)] != list(range(len(was))):
        raise RegionError("regions must keep their order, and new ones come after them")


class Versions:
    """The rows of a trace's `region`: cheap to ask for one interval after the other.

    Raises `RegionError` for rows that contradict each other.
    """

    def __init__(self, rows: Iterable[tuple[int, int, str, int, int, int]]) -> None:
        self._first_intervals: list[int] = []
        self._regions: list[Region] = []
        latest: dict[str, tuple[int, Region]] = {}
        total = 0
        for number, first_interval, name, n_pages, page_bytes, address in rows:
            if number != len(self._regions) or number >= MOST_VERSIONS:
                raise RegionError(f"row {number!r} of its regions is not row {len(self._regions)}")
            if whole_number(address, -_ADDRESSES // 2, _ADDRESSES // 2) is None:
                raise RegionError(f"region {name!r} has the address {address!r}, which is none")
            region = Region(name, n_pages, page_bytes, address % _ADDRESSES)
            least = self._first_intervals[-1] if self._regions else 0
            was_first, was = latest.get(name, (-1, None))
            least = max(least, was_first + 1)
            if whole_number(first_interval, least, MOST_INTERVALS) is None:
                raise RegionError(
                    f"region {name!r} holds from interval {first_interval!r} on, and the rows "
                    f"before it leave it interval {least} at the earliest"
                )
            if was is not None:
                origins((was,), (region,), GROUP_PAGES)
                total -= was.n_pages
            total += region.n_pages
            if total > MOST_PAGES:
                raise RegionError(f"its regions have {total} pages in all; a trace has up to 2**36")
            latest[name] = (first_interval, region)
            self._first_intervals.append(first_interval)
            self._regions.append(region)
        self._n_applied = 0
        self._newest: dict[str, int] = {}
        self._current: tuple[Region, ...] = ()

    def newest(self) -> Iterable[Region]:
        """Each region at its largest."""
        return {region.name: region for region in self._regions}.values()

    def at(self, interval: int) -> tuple[tuple[Region, ...], dict[int, Region]]:
        """The regions in order of appearance, and the same by their row's id, ascending.

        The tuple is the same object as long as nothing changes.
        """
        n_rows = bisect_right(self._first_intervals, interval)
        if n_rows < self._n_applied:
            self._n_applied, self._newest = 0, {}
        if n_rows != self._n_applied or not self._current:
            for row in range(self._n_applied, n_rows):
                self._newest[self._regions[row].name] = row
            self._n_applied = n_rows
            self._current = check_regions(self._regions[row] for row in self._newest.values())
        return self._current, {row: self._regions[row] for row in sorted(self._newest.values())}
