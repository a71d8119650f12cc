"""Time by address: how many pages were dirtied in each cell of a trace of any size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from mempattern.analysis.watch import Row
from mempattern.regions import Region

MOST_COLUMNS = 2000
MOST_ROWS = 1000
_MOST_BASE = 8192
"""Stretches that are counted apart, until it is known which of them were ever written."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A row of the map: successive groups of one region."""

    region: int
    """Its index."""
    first_group: int
    n_groups: int
    n_pages: int
    is_folded: bool
    """It stands for a long stretch that was never written, so that others have more room."""


@dataclass(slots=True)
class Column:
    """Successive intervals, of which there is one at least."""

    first: int
    """Number of the first one, as the source counts."""
    start_s: float
    """Since the start of the first interval of all."""
    last: int = 0
    end_s: float = 0.0
    n_intervals: int = 0
    duration_s: float = 0.0
    """Of the intervals together: less than from start to end where some are missing."""
    dirty_pages: int = 0
    """Summed over the intervals, as are the next four."""
    redirtied_pages: int = 0
    fresh_pages: int = 0
    lost_pages: int = 0
    dirty_bytes: int = 0
    peak_bytes_per_s: float = 0.0
    """Highest rate of one of them."""
    active_groups: int = 0
    """Most of one of them."""

    def add(self, row: Row) -> None:
        self.last, self.end_s = row.index, row.time_s
        self.n_intervals += 1
        self.duration_s += row.duration_s
        self.dirty_pages += row.seen.dirty_pages
        self.redirtied_pages += row.seen.redirtied_pages
        self.fresh_pages += row.seen.fresh_pages
        self.lost_pages += row.lost_pages
        self.dirty_bytes += row.dirty_bytes
        self.peak_bytes_per_s = max(self.peak_bytes_per_s, row.dirty_bytes_per_s)
        self.active_groups = max(self.active_groups, row.seen.active_groups)


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Dirty pages by address and time, exactly: nothing is sampled or left out."""

    regions: tuple[Region, ...]
    """As they are at the end."""
    group_pages: int
    rows: tuple[Stretch, ...]
    """By region, and by address within it."""
    columns: tuple[Column, ...]
    dirty: npt.NDArray[np.uint64]
    """(n_rows, n_columns): dirty pages of the row's groups, summed over the column's intervals."""

    def share(self) -> npt.NDArray[np.float64]:
        """(n_rows, n_columns): of the row's pages, how many were dirty in an interval; the mean."""
        pages = np.array([row.n_pages for row in self.rows], np.float64)
        intervals = np.array([column.n_intervals for column in self.columns], np.float64)
        return np.asarray(self.dirty / np.outer(pages, intervals))


class Cells:
    """Counts the rows of a `Watch` into cells; memory does not grow with the trace.

    `regions` are those of its last interval, `n_intervals` how many there are: of a recorded trace
    both are known. At most 2000 columns of successive intervals and about 1000 rows of successive
    groups come of it (each region has one). Where there are more groups than rows, a stretch
    that was never written takes one row; where there still are too many, each row stands for as
    many groups as it must.
    """

    def __init__(self, regions: tuple[Region, ...], n_intervals: int, group_pages: int) -> None:
        self._regions = regions
        self._group_pages = group_pages
        self._per_column = max(1, -(-n_intervals // MOST_COLUMNS))
        n_groups = [region.n_groups(group_pages) for region in regions]
        self._per_base = max(1, -(-sum(n_groups) // _MOST_BASE))
        n_base = [-(-groups // self._per_base) for groups in n_groups]
        self._offsets = list(accumulate(n_base, initial=0))
        self._numbers = {region.name: number for number, region in enumerate(regions)}
        self._columns: list[Column] = []
        self._counts: list[npt.NDArray[np.uint64]] = []

    def add(self, row: Row) -> None:
        """Count the next interval."""
        if not self._columns or self._columns[-1].n_intervals == self._per_column:
            self._columns.append(Column(row.index, row.time_s - row.duration_s))
            self._counts.append(np.zeros(self._offsets[-1], np.uint64))
        self._columns[-1].add(row)
        for name, activity in row.active.items():
            number = self._numbers[name]
            now, was = self._regions[number], activity.region
            in_front = (was.address - now.address) // (now.page_bytes * self._group_pages)
            groups = np.flatnonzero(activity.dirty)
            at = self._offsets[number] + (groups + in_front) // self._per_base
            np.add.at(self._counts[-1], at, activity.dirty[groups].astype(np.uint64))

    def heat_map(self) -> HeatMap:
        """What was counted up to now."""
        written = np.zeros(self._offsets[-1], bool)
        for counts in self._counts:  # one by one: a copy of all would be their memory once more
            written |= counts > 0
        starts = _merge(written, self._offsets)
        dirty = np.empty((len(starts), len(self._counts)), np.uint64)
        for column, counts in enumerate(self._counts):
            dirty[:, column] = np.add.reduceat(counts, starts)
        return HeatMap(
            self._regions,
            self._group_pages,
            self._stretches(starts, np.asarray(dirty.any(axis=1))),
            tuple(self._columns),
            dirty,
        )

    def _stretches(self, starts: list[int], written: npt.NDArray[np.bool_]) -> tuple[Stretch, ...]:
        rows: list[Stretch] = []
        usual = max(np.diff([*starts, self._offsets[-1]])[written], default=1)
        region = 0
        for start, end in pairwise([*starts, self._offsets[-1]]):
            while start >= self._offsets[region + 1]:
                region += 1
            first, last = ((at - self._offsets[region]) * self._per_base for at in (start, end))
            pages = self._regions[region].n_pages
            last = min(last, self._regions[region].n_groups(self._group_pages))
            n_pages = min(last * self._group_pages, pages) - first * self._group_pages
            folded = not written[len(rows)] and end - start > usual
            rows.append(Stretch(region, first, last - first, n_pages, folded))
        return tuple(rows)


def _merge(written: npt.NDArray[np.bool_], offsets: list[int]) -> list[int]:
    """Where each row starts among the base stretches; `offsets` are where the regions do."""
    if len(written) <= MOST_ROWS:
        return list(range(len(written)))
    edges = np.zeros(len(written), bool)
    edges[offsets[:-1]] = True
    edges[1:] |= written[1:] != written[:-1]
    runs = np.flatnonzero(edges).tolist()
    ends = [*runs[1:], len(written)]

    def starts(per_row: int) -> list[int]:
        return [
            at
            for run, end in zip(runs, ends, strict=True)
            for at in (range(run, end, per_row) if written[run] else (run,))
        ]

    per_row = 1
    while len(found := starts(per_row)) > MOST_ROWS and per_row < 2 * len(written) / MOST_ROWS:
        per_row += 1
    return found if len(found) <= MOST_ROWS else _evenly(offsets)


def _evenly(offsets: list[int]) -> list[int]:
    """Where what was written is too scattered for that."""
    per_row = -(-offsets[-1] // MOST_ROWS)
    return [at for start, end in pairwise(offsets) for at in range(start, end, per_row)]
