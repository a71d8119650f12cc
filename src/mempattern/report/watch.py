"""From intervals to what the reports show: one row an interval, a summary at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mempattern import kernels
from mempattern.history import DirtyHistory
from mempattern.interval import Interval, Provenance
from mempattern.regions import GROUP_PAGES, Region
from mempattern.stats import GroupStats, Seen

Density = npt.NDArray[np.float64]
"""Share of dirty pages, 0 to 1, in each of a few equal stretches of a region."""


_DEPTH = 16
CELLS = 64
"""Cells of all regions' heat strips together, where there is room for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One interval."""

    index: int
    label: str
    time_s: float
    """End of the interval, since the start of the first one."""
    seen: Seen
    dirty_bytes_per_s: float
    heat: dict[str, Density]
    """By region."""
    lost_pages: int


@dataclass(frozen=True, slots=True)
class HotGroup:
    """A group among those with the highest write rates (pages/s)."""

    region: str
    group: int
    touched: int
    active_intervals: int
    write_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """All intervals together. Pages and bytes are exact."""

    n_intervals: int
    duration_s: float
    total_pages: int
    dirty_pages: int
    redirtied_pages: int
    touched_pages: int
    touched_bytes: int
    peak_dirty_bytes_per_s: float
    peak_duration_s: float
    """Length of the interval with the peak: a rate without its window says little."""
    hot_pages: int
    hot_at_least: int
    hot_of: int
    hot_groups: tuple[HotGroup, ...]
    lost_pages: int
    collect_median_s: float
    collect_max_s: float
    stats_bytes: int
    kernel: str
    provenance: Provenance


@dataclass(slots=True)
class Watch:
    """Takes the intervals of one source, keeps the statistics, makes rows and the summary."""

    regions: tuple[Region, ...]
    provenance: Provenance
    cells: int = CELLS
    stats: GroupStats = field(init=False)
    history: DirtyHistory = field(init=False)
    _collect_s: list[float] = field(init=False, default_factory=list)
    _first_ns: int | None = field(init=False, default=None)
    _last_ns: int = field(init=False, default=0)
    _dirty_pages: int = field(init=False, default=0)
    _redirtied_pages: int = field(init=False, default=0)
    _lost_pages: int = field(init=False, default=0)
    _peak: tuple[float, float] = field(init=False, default=(0.0, 0.0))

    def __post_init__(self) -> None:
        self.history = DirtyHistory(self.regions, _DEPTH)
        self.stats = GroupStats(self.regions, history=self.history)

    def observe(self, interval: Interval, label: str = "") -> Row:
        """Count the interval. Raises as `GroupStats.update`."""
        seen = self.stats.update(interval)
        if self._first_ns is None:
            self._first_ns = interval.start_ns
        dirty_bytes = sum(
            self.stats.seen(region.name).dirty_pages * region.page_bytes for region in self.regions
        )
        row = Row(
            index=interval.index,
            label=label,
            time_s=(interval.end_ns - self._first_ns) / 1e9,
            seen=seen,
            dirty_bytes_per_s=dirty_bytes / interval.duration_s,
            heat={region.name: self._heat(region) for region in self.regions},
            lost_pages=interval.lost_pages,
        )
        self._last_ns = interval.end_ns
        self._collect_s.append(interval.collect_ns / 1e9)
        self._dirty_pages += seen.dirty_pages
        self._redirtied_pages += seen.redirtied_pages
        self._lost_pages += interval.lost_pages
        self._peak = max(self._peak, (row.dirty_bytes_per_s, interval.duration_s))
        return row

    def _cells_of(self, region: Region) -> int:
        """The strip is shared out by size; every region gets a cell, none more than its groups."""
        total = sum(other.n_pages for other in self.regions)
        share = round(self.cells * region.n_pages / total)
        return max(1, min(share, region.n_groups(GROUP_PAGES)))

    def _heat(self, region: Region) -> Density:
        groups = self.stats.groups(region.name)
        edges = np.linspace(0, groups.n_groups, self._cells_of(region) + 1).astype(np.int64)
        dirty = np.add.reduceat(groups.dirty.astype(np.float64), edges[:-1])
        pages = np.minimum(edges * GROUP_PAGES, region.n_pages)
        return np.asarray(dirty / np.diff(pages))

    def summary(self) -> Summary:
        hot_of = max(1, len(self.history))
        hot_at_least = max(1, hot_of * 3 // 4)
        hot = self.history.hot_pages(hot_at_least)
        touched = {
            region: int(self.stats.groups(region.name).touched.sum(dtype=np.uint64))
            for region in self.regions
        }
        return Summary(
            n_intervals=self.stats.n_intervals,
            duration_s=(self._last_ns - (self._first_ns or self._last_ns)) / 1e9,
            total_pages=sum(region.n_pages for region in self.regions),
            dirty_pages=self._dirty_pages,
            redirtied_pages=self._redirtied_pages,
            touched_pages=sum(touched.values()),
            touched_bytes=sum(n * region.page_bytes for region, n in touched.items()),
            peak_dirty_bytes_per_s=self._peak[0],
            peak_duration_s=self._peak[1],
            hot_pages=sum(int(np.bitwise_count(words).sum(dtype=int)) for words in hot.values()),
            hot_at_least=hot_at_least,
            hot_of=hot_of,
            hot_groups=self._hot_groups(5),
            lost_pages=self._lost_pages,
            collect_median_s=float(np.median(self._collect_s)) if self._collect_s else 0.0,
            collect_max_s=max(self._collect_s, default=0.0),
            stats_bytes=self.stats.n_bytes + self.history.n_bytes,
            kernel=kernels.active(),
            provenance=self.provenance,
        )

    def _hot_groups(self, most: int) -> tuple[HotGroup, ...]:
        hot: list[HotGroup] = []
        for region in self.regions:
            groups = self.stats.groups(region.name)
            rates = groups.write_rate
            for group in np.argsort(rates)[::-1][:most]:
                if rates[group] > 0:
                    hot.append(
                        HotGroup(
                            region.name,
                            int(group),
                            int(groups.touched[group]),
                            int(groups.active_intervals[group]),
                            float(rates[group]),
                        )
                    )
        return tuple(sorted(hot, key=lambda group: -group.write_rate)[:most])
