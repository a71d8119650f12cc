"""From intervals to what the reports show: one row an interval, a summary at the end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mempattern import kernels
from mempattern.history import DirtyHistory
from mempattern.interval import Interval, Provenance
from mempattern.regions import GROUP_PAGES, Region
from mempattern.report.target import UNKNOWN, Target
from mempattern.stats import GroupStats, Seen

WINDOWS = (1, 2, 4, 8, 16)
"""In intervals: the windows of which D(t) is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """What one interval did to one region that was written to."""

    region: Region
    seen: Seen
    dirty: npt.NDArray[np.uint32]
    """Dirty pages in each group: an own copy."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """One point of D(t)."""

    seconds: float
    """Mean length of the windows."""
    pages: float
    """Mean number of distinct pages dirty in a window, over all windows so far."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """What is known of the whole trace after an interval."""

    touched_pages: int
    touched_bytes: int
    distinct: tuple[Distinct, ...]
    """D(t), for the windows that the trace is long enough for."""
    collect_share: float
    """Time spent in collections, as a share of the time watched."""
    lost_pages: int
    dropped: int
    """Intervals that the trace file has not, because the disk did not keep up."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One interval."""

    index: int
    label: str
    time_s: float
    """End of the interval, since the start of the first one."""
    duration_s: float
    collect_s: float
    seen: Seen
    dirty_bytes: int
    regions: tuple[Region, ...]
    n_groups: int
    group_pages: int
    active: dict[str, Activity]
    """By name of the region, those with a dirty page."""
    lost_pages: int
    so_far: SoFar

    @property
    def dirty_bytes_per_s(self) -> float:
        return self.dirty_bytes / self.duration_s


@dataclass(frozen=True, slots=True)
class HotGroup:
    """A group among those with the highest write rates (pages/s)."""

    region: str
    group: int
    address: int
    """Of the group, as `Region.address` is of the region."""
    touched: int
    active_intervals: int
    write_rate: float


@dataclass(slots=True)
class Totals:
    """Pages summed over the intervals. Of fresh ones, that is how many were touched."""

    dirty_pages: int = 0
    redirtied_pages: int = 0
    fresh_pages: int = 0

    def add(self, seen: Seen) -> None:
        self.dirty_pages += seen.dirty_pages
        self.redirtied_pages += seen.redirtied_pages
        self.fresh_pages += seen.fresh_pages


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """All intervals together. Pages and bytes are exact."""

    target: Target
    n_intervals: int
    duration_s: float
    regions: tuple[Region, ...]
    n_groups: int
    group_pages: int
    total: Totals
    by_region: dict[str, Totals]
    so_far: SoFar
    peak_dirty_bytes_per_s: float
    peak_duration_s: float
    """Length of the interval with the peak: a rate without its window says little."""
    hot_pages: int
    hot_at_least: int
    hot_of: int
    hot_groups: tuple[HotGroup, ...]
    collect_s: float
    collect_median_s: float
    collect_max_s: float
    stats_bytes: int
    kernel: str
    provenance: Provenance
    ended: str | None
    """What ended the trace, a key of `report.text.ENDINGS`; None if that is not known."""
    exit_code: int | None
    """Of the command that was started, if it ended; negative: the signal that killed it."""
    execs: int | None
    """How often it executed another program in its place and was followed; None if not known."""
    huge_bytes: int | None
    """In transparent huge pages when they were protected; None if not known."""

    @property
    def total_pages(self) -> int:
        return sum(region.n_pages for region in self.regions)


@dataclass(slots=True)
class Watch:
    """Takes the intervals of one source, keeps the statistics, makes rows and the summary.

    Follows the regions as they grow from interval to interval.
    """

    regions: tuple[Region, ...]
    provenance: Provenance
    group_pages: int = GROUP_PAGES
    target: Target = UNKNOWN
    dropped: int = 0
    """Set it to what the writer of the trace file says."""
    stats: GroupStats = field(init=False)
    history: DirtyHistory = field(init=False)
    total: Totals = field(init=False, default_factory=Totals)
    _by_region: dict[str, Totals] = field(init=False, default_factory=dict)
    _touched_bytes: int = field(init=False, default=0)
    _collect_s: list[float] = field(init=False, default_factory=list)
    _collect_ns: int = field(init=False, default=0)
    _first_ns: int | None = field(init=False, default=None)
    _duration_ns: int = field(init=False, default=0)
    _durations_s: deque[float] = field(init=False)
    _windows: dict[int, list[float]] = field(init=False)
    _lost_pages: int = field(init=False, default=0)
    _peak: tuple[float, float] = field(init=False, default=(0.0, 0.0))

    def __post_init__(self) -> None:
        self.history = DirtyHistory(self.regions, max(WINDOWS))
        self.stats = GroupStats(self.regions, self.group_pages, history=self.history)
        self._durations_s = deque(maxlen=max(WINDOWS))
        self._windows = {window: [0, 0.0, 0.0] for window in WINDOWS}

    def observe(self, interval: Interval, label: str = "") -> Row:
        """Count the interval. Raises as `GroupStats.follow` and `GroupStats.update`."""
        if interval.regions != self.regions:
            self.stats.follow(interval.regions)
            self.regions = interval.regions
        seen = self.stats.update(interval)
        if self._first_ns is None:
            self._first_ns = interval.start_ns
        active = {
            region.name: Activity(region, of_region, self.stats.groups(region.name).dirty.copy())
            for region in self.regions
            if (of_region := self.stats.seen(region.name)).dirty_pages
        }
        self._count(interval, seen, active)
        row = Row(
            index=interval.index,
            label=label,
            time_s=(interval.end_ns - self._first_ns) / 1e9,
            duration_s=interval.duration_s,
            collect_s=interval.collect_ns / 1e9,
            seen=seen,
            dirty_bytes=sum(a.seen.dirty_pages * a.region.page_bytes for a in active.values()),
            regions=self.regions,
            n_groups=self._n_groups(),
            group_pages=self.group_pages,
            active=active,
            lost_pages=interval.lost_pages,
            so_far=self._so_far(),
        )
        self._peak = max(self._peak, (row.dirty_bytes_per_s, interval.duration_s))
        return row

    def _count(self, interval: Interval, seen: Seen, active: dict[str, Activity]) -> None:
        self._duration_ns += interval.end_ns - interval.start_ns
        self._collect_ns += interval.collect_ns
        self._collect_s.append(interval.collect_ns / 1e9)
        self._lost_pages += interval.lost_pages
        self.total.add(seen)
        for name, activity in active.items():
            self._by_region.setdefault(name, Totals()).add(activity.seen)
            self._touched_bytes += activity.seen.fresh_pages * activity.region.page_bytes
        self._durations_s.append(interval.duration_s)
        recent = list(self._durations_s)
        for window, means in self._windows.items():
            if len(recent) >= window:
                means[0] += 1
                means[1] += sum(recent[-window:])
                means[2] += seen.dirty_pages if window == 1 else self.history.distinct_pages(window)

    def _n_groups(self) -> int:
        return sum(region.n_groups(self.group_pages) for region in self.regions)

    def _so_far(self) -> SoFar:
        return SoFar(
            touched_pages=self.total.fresh_pages,
            touched_bytes=self._touched_bytes,
            distinct=tuple(
                Distinct(seconds / n, pages / n)
                for n, seconds, pages in self._windows.values()
                if n
            ),
            collect_share=self._collect_ns / self._duration_ns if self._duration_ns else 0.0,
            lost_pages=self._lost_pages,
            dropped=self.dropped,
        )

    def summary(
        self,
        ended: str | None = None,
        exit_code: int | None = None,
        execs: int | None = None,
        huge_bytes: int | None = None,
    ) -> Summary:
        hot_of = max(1, len(self.history))
        hot_at_least = max(1, hot_of * 3 // 4)
        hot = self.history.hot_pages(hot_at_least)
        return Summary(
            target=self.target,
            n_intervals=self.stats.n_intervals,
            duration_s=self._duration_ns / 1e9,
            regions=self.regions,
            n_groups=self._n_groups(),
            group_pages=self.group_pages,
            total=self.total,
            by_region={
                region.name: self._by_region.get(region.name, Totals()) for region in self.regions
            },
            so_far=self._so_far(),
            peak_dirty_bytes_per_s=self._peak[0],
            peak_duration_s=self._peak[1],
            hot_pages=sum(int(np.bitwise_count(words).sum(dtype=int)) for words in hot.values()),
            hot_at_least=hot_at_least,
            hot_of=hot_of,
            hot_groups=self._hot_groups(5),
            collect_s=self._collect_ns / 1e9,
            collect_median_s=float(np.median(self._collect_s)) if self._collect_s else 0.0,
            collect_max_s=max(self._collect_s, default=0.0),
            stats_bytes=self.stats.n_bytes + self.history.n_bytes,
            kernel=kernels.active(),
            provenance=self.provenance,
            ended=ended,
            exit_code=exit_code,
            execs=execs,
            huge_bytes=huge_bytes,
        )

    def _hot_groups(self, most: int) -> tuple[HotGroup, ...]:
        hot: list[HotGroup] = []
        for name in self._by_region:
            groups = self.stats.groups(name)
            rates = groups.write_rate
            region = groups.region
            for group in np.argsort(rates)[::-1][:most]:
                if rates[group] > 0:
                    hot.append(
                        HotGroup(
                            name,
                            int(group),
                            region.address + int(group) * self.group_pages * region.page_bytes,
                            int(groups.touched[group]),
                            int(groups.active_intervals[group]),
                            float(rates[group]),
                        )
                    )
        return tuple(sorted(hot, key=lambda group: -group.write_rate)[:most])
