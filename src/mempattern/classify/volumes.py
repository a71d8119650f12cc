"""How much is written: in an iteration, group by group, and in the short intervals within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mempattern.classify.passes import Point
from mempattern.stats import GroupStats


@dataclass(frozen=True, slots=True)
class Volume:
    """What an iteration did to the VM's groups, in sums."""

    duration_s: float
    dirty_bytes: int
    redirtied_bytes: int
    active_groups: int
    still_active_groups: int
    """Of the active ones, those active in the iteration before."""
    memory_bytes: int

    @classmethod
    def of(cls, stats: GroupStats, duration_s: float) -> Volume:
        """Of the interval that the statistics were last updated with."""
        dirty = redirtied = active = still_active = 0
        for name, seen in stats.active.items():
            groups = stats.groups(name)
            dirty += seen.dirty_pages * groups.region.page_bytes
            redirtied += seen.redirtied_pages * groups.region.page_bytes
            active += seen.active_groups
            still_active += int(np.count_nonzero(groups.streak > 1))
        memory = sum(region.n_pages * region.page_bytes for region in stats.regions)
        return cls(duration_s, dirty, redirtied, active, still_active, memory)

    @property
    def point(self) -> Point:
        return Point(self.duration_s, self.dirty_bytes)

    @property
    def redirtied_share(self) -> float | None:
        return self.redirtied_bytes / self.dirty_bytes if self.dirty_bytes else None

    def ratio(self, before: Volume) -> float | None:
        return self.dirty_bytes / before.dirty_bytes if before.dirty_bytes else None

    def stability(self, before: Volume) -> float | None:
        """The Jaccard index of the two iterations' sets of active groups."""
        either = self.active_groups + before.active_groups - self.still_active_groups
        return self.still_active_groups / either if either else None

    def returned_share(self, before: Volume | None) -> float:
        """Of the pages sent in the pass, those written again in it."""
        if before is None:  # all memory was sent
            return self.dirty_bytes / self.memory_bytes
        return self.redirtied_bytes / before.dirty_bytes if before.dirty_bytes else 1.0

    def points(self, before: Volume | None) -> list[Point]:
        """Of D(t): this iteration, the one before, and what either dirtied in both times."""
        if before is None:
            return [self.point]
        either = self.dirty_bytes + before.dirty_bytes - self.redirtied_bytes
        return [self.point, before.point, Point(self.duration_s + before.duration_s, either)]


@dataclass(slots=True)
class ShortIntervals:
    """What was written in short intervals in a row: their mean, and the deepest trough."""

    page_Bps: float
    half_life_s: float
    n_intervals: float = 0.0
    duration_s: float = 0.0
    dirty_bytes: float = 0.0
    trough_bytes: float = 0.0
    """What the link could have carried beyond what was written, since that last came to nothing."""
    deepest_bytes: float = 0.0

    def add(self, duration_s: float, dirty_bytes: int) -> None:
        kept = 0.5 ** (duration_s / self.half_life_s)
        self.n_intervals = self.n_intervals * kept + 1
        self.duration_s = self.duration_s * kept + duration_s
        self.dirty_bytes = self.dirty_bytes * kept + dirty_bytes
        beyond = self.page_Bps * duration_s - dirty_bytes
        self.trough_bytes = max(self.trough_bytes + beyond, 0.0)
        self.deepest_bytes = max(self.deepest_bytes, self.trough_bytes)

    def points(self) -> list[Point]:
        """The point of D(t) that they make, if there were any."""
        if self.n_intervals == 0:
            return []
        return [Point(self.duration_s / self.n_intervals, self.dirty_bytes / self.n_intervals)]
