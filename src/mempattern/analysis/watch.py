"""From intervals to what the reports show: one row an interval, a summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mempattern import kernels
from mempattern.analysis.findings import BANDWIDTH_BPS, DOWNTIME_LIMIT_S, Findings
from mempattern.analysis.reservoir import Reservoir
from mempattern.analysis.target import UNKNOWN, Target
from mempattern.bitmaps import Seen
from mempattern.distinct import DistinctPages
from mempattern.history import DirtyHistory
from mempattern.interval import Interval, Provenance
from mempattern.regions import GROUP_PAGES, Region
from mempattern.stats import GroupStats

if TYPE_CHECKING:
    from mempattern.classify.patterns import PatternDetector

_DEPTH = 16  # intervals that hot pages are of
_BEHIND_BYTES = 32 << 20  # of bitmaps; of larger guests fewer intervals join at once, or one


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """What one interval did to one region that was written to."""

    region: Region
    seen: Seen
    dirty: npt.NDArray[np.uint32]
    """Dirty pages in each group: an own copy."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """What is known of the whole trace after an interval."""

    touched_pages: int
    touched_bytes: int
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
    """All intervals together. Pages and bytes are exact; `collect_median_s` is of the intervals
    that a `Reservoir` keeps.
    """

    target: Target
    n_intervals: int
    duration_s: float
    regions: tuple[Region, ...]
    n_groups: int
    group_pages: int
    total: Totals
    by_region: dict[str, Totals]
    so_far: SoFar
    findings: Findings
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
    file: Path | None
    """Where the intervals are recorded."""
    facts: Mapping[str, str]
    """Those of that file, which may be anybody's."""

    @property
    def total_pages(self) -> int:
        return sum(region.n_pages for region in self.regions)


@dataclass(slots=True)
class Watch:
    """Takes the intervals of one source, keeps the statistics, makes rows and the summary.

    Follows the regions as they grow from interval to interval. `bandwidth_Bps` and
    `downtime_limit_s` are of the migration that the verdict is on; `facts` are those of the trace
    file, and `file` is its path.
    """

    regions: tuple[Region, ...]
    provenance: Provenance
    group_pages: int = GROUP_PAGES
    target: Target = UNKNOWN
    bandwidth_Bps: float = BANDWIDTH_BPS
    downtime_limit_s: float = DOWNTIME_LIMIT_S
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    file: Path | None = None
    dropped: int = 0
    """Set it to what the writer of the trace file says."""
    is_replay: bool = False
    """Nothing waits for the next interval: several join the windows at once, which is faster."""
    stats: GroupStats = field(init=False)
    history: DirtyHistory = field(init=False)
    distinct: DistinctPages = field(init=False)
    detector: PatternDetector = field(init=False)
    _behind: list[Interval] = field(init=False, default_factory=list)
    _behind_bytes: int = field(init=False, default=0)
    total: Totals = field(init=False, default_factory=Totals)
    _by_region: dict[str, Totals] = field(init=False, default_factory=dict)
    _touched_bytes: int = field(init=False, default=0)
    _collect_ns: int = field(init=False, default=0)
    _first_ns: int | None = field(init=False, default=None)
    _end_ns: int = field(init=False, default=0)
    _duration_ns: int = field(init=False, default=0)
    _longest_collect_ns: int = field(init=False, default=0)
    _intervals: Reservoir = field(init=False, default_factory=lambda: Reservoir(3))
    _lost_pages: int = field(init=False, default=0)
    _peak: tuple[float, float] = field(init=False, default=(0.0, 0.0))

    def __post_init__(self) -> None:
        from mempattern.classify.patterns import PatternDetector  # noqa: PLC0415

        self.history = DirtyHistory(self.regions, _DEPTH)
        self.stats = GroupStats(self.regions, self.group_pages, history=self.history)
        self.distinct = DistinctPages(self.regions, self.group_pages)
        self.detector = PatternDetector(self.stats)

    def observe(self, interval: Interval, label: str = "") -> Row:
        """Count the interval. Raises as `GroupStats.follow` and `GroupStats.update`."""
        if interval.regions != self.regions:
            self._join()
            self.stats.follow(interval.regions)
            self.distinct.follow(interval.regions)
            self.regions = interval.regions
        seen = self.stats.update(interval)
        self.detector.observe(interval)
        self._behind.append(interval)
        self._behind_bytes += sum(words.nbytes for words in interval.bitmaps.values())
        if not self.is_replay or self._behind_bytes >= _BEHIND_BYTES:
            self._join()
        if self._first_ns is None:
            self._first_ns = interval.start_ns
        active = {
            name: Activity(groups.region, of_region, groups.dirty.copy())
            for name, of_region in self.stats.active.items()
            for groups in (self.stats.groups(name),)
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

    def _join(self) -> None:
        """Count the intervals that have not joined the windows yet."""
        self.distinct.update_all(self._behind)
        self._behind.clear()
        self._behind_bytes = 0

    def _count(self, interval: Interval, seen: Seen, active: dict[str, Activity]) -> None:
        self._duration_ns += interval.end_ns - interval.start_ns
        self._collect_ns += interval.collect_ns
        self._longest_collect_ns = max(self._longest_collect_ns, interval.collect_ns)
        self._lost_pages += interval.lost_pages
        self.total.add(seen)
        for name, activity in active.items():
            self._by_region.setdefault(name, Totals()).add(activity.seen)
            self._touched_bytes += activity.seen.fresh_pages * activity.region.page_bytes
        self._intervals.put(interval.duration_s, seen.dirty_pages, interval.collect_ns / 1e9)
        self._end_ns = interval.end_ns

    def _n_groups(self) -> int:
        return sum(region.n_groups(self.group_pages) for region in self.regions)

    def _so_far(self) -> SoFar:
        return SoFar(
            touched_pages=self.total.fresh_pages,
            touched_bytes=self._touched_bytes,
            collect_share=self._collect_ns / self._duration_ns if self._duration_ns else 0.0,
            lost_pages=self._lost_pages,
            dropped=self.dropped,
        )

    def findings(self) -> Findings:
        """It takes some milliseconds, and the verdict is not among them."""
        from mempattern.migration.observed import Observed  # noqa: PLC0415
        from mempattern.migration.zeros import count_zeros  # noqa: PLC0415

        self._join()
        same_size = len({region.page_bytes for region in self.regions}) == 1
        span_ns = self._end_ns - self._first_ns if self._first_ns is not None else 0
        durations_s, dirty_pages, _ = self._intervals.columns()
        return Findings(
            windows=self.distinct.windows(),
            curve=self.distinct.curve() if same_size and self.distinct.n_intervals else None,
            pattern=self.detector.pattern(),
            observed=Observed(
                durations_s=durations_s,
                dirty_pages=dirty_pages,
                n_intervals=self.stats.n_intervals,
                duration_s=self._duration_ns / 1e9,
                dirtied_pages=self.total.dirty_pages,
                touched_pages=self.total.fresh_pages,
                n_pages=sum(region.n_pages for region in self.regions),
                lost_pages=self._lost_pages,
                n_lossy=self.stats.n_intervals - self.distinct.n_intervals,
                unseen_s=(span_ns - self._duration_ns) / 1e9,
                page_bytes=max(region.page_bytes for region in self.regions),
            ),
            zero_pages=count_zeros(
                self.regions,
                self.facts,
                {name: self.stats.groups(name).touched for name in self._by_region},
                self.group_pages,
            ),
            is_guest=self.target.is_guest or self.provenance.source.startswith("kvm-"),
            bandwidth_Bps=self.bandwidth_Bps,
            downtime_limit_s=self.downtime_limit_s,
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
        _, _, collect_s = self._intervals.columns()
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
            findings=self.findings(),
            peak_dirty_bytes_per_s=self._peak[0],
            peak_duration_s=self._peak[1],
            hot_pages=sum(int(np.bitwise_count(words).sum(dtype=int)) for words in hot.values()),
            hot_at_least=hot_at_least,
            hot_of=hot_of,
            hot_groups=self._hot_groups(5),
            collect_s=self._collect_ns / 1e9,
            collect_median_s=float(np.median(collect_s)) if collect_s.size else 0.0,
            collect_max_s=self._longest_collect_ns / 1e9,
            stats_bytes=self.stats.n_bytes + self.history.n_bytes + self.distinct.n_bytes,
            kernel=kernels.active(),
            provenance=self.provenance,
            ended=ended,
            exit_code=exit_code,
            execs=execs,
            huge_bytes=huge_bytes,
            file=self.file,
            facts=self.facts,
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
