"""Which pattern a VM, and each region of it, dirties its memory in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mempattern.classify.decide import decide
from mempattern.classify.kinds import Kind, Pattern
from mempattern.classify.known import Known
from mempattern.classify.sample import SAMPLE_PAGES, PageSample, Sampled
from mempattern.classify.series import Series
from mempattern.errors import RegionError, UsageError
from mempattern.interval import Bitmap, Interval
from mempattern.regions import Region
from mempattern.stats import GroupStats

_PART = 0.1
"""Of the VM's dirty pages: a region with fewer does not make its pattern a mixed one."""

_SURE = 0.5
"""Confidence that a region's kind needs for that."""

_COUNTS = 5


class _Part:
    """What is kept of a region that was ever dirty."""

    def __init__(self, region: Region, group_pages: int) -> None:
        self.sample = PageSample(region, group_pages)
        self.series = Series(_COUNTS)


class PatternDetector:
    """Tells the pattern of the last intervals, of the VM and of each region.

    It reads what `stats` has counted, so that memory is passed over once: call `observe` after each
    `stats.update`, with the same interval. Regions are followed as `stats` follows them.

    Of each region that was ever dirty it holds 8 bytes a group, 20 KiB of counts, and a sample of
    at most 32768 pages, 8 bytes each. `observe` costs well under a millisecond however large the
    region is, `pattern` some milliseconds. One thread at a time.
    """

    def __init__(self, stats: GroupStats) -> None:
        self.stats = stats
        self.n_intervals: int = 0
        """Intervals observed."""
        self._before = stats.n_intervals
        self._regions = stats.regions
        self._parts: dict[str, _Part] = {}
        self._series = Series(_COUNTS)
        self._times = Series(3)

    def observe(self, interval: Interval) -> None:
        """Take in the interval that the statistics were just updated with.

        Raises `UsageError` unless they were updated once since the last call, `RegionError` if the
        interval has other regions than they have.
        """
        stats, index = self.stats, self.n_intervals
        if stats.n_intervals != self._before + index + 1:
            raise UsageError(
                f"the statistics were updated {stats.n_intervals - self._before - index} times "
                "since the last observe(), and must be once: make a new detector, and call it "
                "after each update()"
            )
        if stats.regions is not self._regions:
            self._follow()
        if interval.regions is not self._regions and interval.regions != self._regions:
            raise RegionError("the interval has other regions than the statistics; give it to both")
        rows = [(0,) * _COUNTS]
        for name, seen in stats.active.items():
            groups = stats.groups(name)
            part = self._parts.get(name)
            if part is None:
                part = self._parts[name] = _Part(groups.region, stats.group_pages)
            row = (
                seen.dirty_pages,
                seen.redirtied_pages,
                seen.fresh_pages,
                seen.active_groups,
                seen.runs,
            )
            part.series.put(index, row)
            rows.append(row)
            part.sample.observe(index, interval.bitmaps[name], groups.dirty, seen.active_groups)
        self._series.put(index, tuple(map(sum, zip(*rows, strict=True))))
        self._times.put(index, (interval.start_ns, interval.end_ns, interval.lost_pages))
        self.n_intervals += 1

    def _follow(self) -> None:
        self._regions = self.stats.regions
        for region in self._regions:
            part = self._parts.get(region.name)
            if part is not None and part.sample.region != region:
                part.sample.follow(region)

    def pattern(self, region_name: str | None = None) -> Pattern:
        """The pattern of the last intervals: of the VM, or of one region.

        `unknown`, with confidence 0, where too little was seen. Raises `RegionError` for a name
        that the statistics do not have.
        """
        if region_name is not None:
            self.stats.seen(region_name)  # which knows the names
            part = self._parts.get(region_name)
            return self._of(part) if part else decide(self._observed([], Series(_COUNTS)))
        return self._with_parts(decide(self._observed(list(self._parts.values()), self._series)))

    def _of(self, part: _Part) -> Pattern:
        return decide(self._observed([part], part.series))

    def _with_parts(self, whole: Pattern) -> Pattern:
        """Mixed, if regions that count are surely of different kinds.

        Not where the whole has a period; and where it is a sweep, its regions may show as phases.
        """
        n = whole.evidence.n_intervals
        if n == 0 or whole.kind in (Kind.IDLE, Kind.PHASED) or len(self._parts) < 2:
            return whole
        volume = {
            name: int(part.series.last(self.n_intervals)[-n:, 0].sum())
            for name, part in self._parts.items()
        }
        least = _PART * sum(volume.values())
        parts = {
            name: self._of(part) for name, part in self._parts.items() if volume[name] >= least
        }
        sure = {name: p for name, p in parts.items() if p.confidence >= _SURE}
        kinds = {pattern.kind for pattern in sure.values()} - {Kind.UNKNOWN, Kind.IDLE}
        if whole.kind is Kind.SWEEP:
            kinds -= {Kind.PHASED}
        if len(kinds) < 2:
            return whole
        return replace(
            whole,
            kind=Kind.MIXED,
            confidence=min(pattern.confidence for pattern in sure.values()),
            parts=tuple((name, pattern.kind) for name, pattern in sure.items()),
        )

    def _observed(self, parts: list[_Part], series: Series) -> Known:
        """The parts as one, with the counts of `series`: of each region those groups whose hash is
        below the same limit, which makes it a sample of their union.
        """
        n = self.n_intervals
        times = self._times.last(n)
        samples = [part.sample.sampled(n) for part in parts]
        limit = _common_limit(samples)
        pasts: list[Bitmap] = []
        places: list[npt.NDArray[np.int64]] = []
        known: list[npt.NDArray[np.int64]] = []
        place = 0
        for part, sample in zip(parts, samples, strict=True):
            rows = sample.hashes < limit
            pasts.append(sample.past[rows])
            places.append(sample.places[rows] + place)
            known.append(sample.known[rows])
            place += part.sample.region.n_pages
        return Known(
            past=np.concatenate(pasts) if pasts else np.zeros((0, 64), np.uint64),
            places=np.concatenate(places) if places else np.zeros(0, np.int64),
            known=np.concatenate(known) if known else np.zeros(0, np.int64),
            fraction=limit * (samples[0].share if samples else 1.0),
            counts=series.last(n),
            times_ns=times[:, :2],
            lost_pages=times[:, 2],
        )


def _common_limit(samples: list[Sampled]) -> float:
    """The highest that leaves the union no larger than a sample may be."""
    limit = min((sample.limit for sample in samples), default=1.0)
    hashes = np.concatenate([np.zeros(0), *(sample.hashes for sample in samples)])
    hashes = np.sort(hashes[hashes < limit])
    most = SAMPLE_PAGES // samples[0].past.shape[1] if samples else 0
    return float(hashes[most]) if hashes.size > most else limit
