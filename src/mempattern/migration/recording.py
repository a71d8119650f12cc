"""A trace as guest time that goes on after its end."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mempattern._memory import lend
from mempattern._native import ffi
from mempattern.errors import UsageError
from mempattern.interval import Bitmap, Interval
from mempattern.migration.observed import Observed
from mempattern.regions import Region, origins
from mempattern.stats import group_counts

_POINTERS = ffi.typeof("uint64_t *[]")
_FEW = 20
_GAP = 0.02
_UNEVEN = 10.0
_PARTS = 1024
"""Of a region, to tell one moment of a recording from another."""
_SHORT_S = 0.25
_APART_S = 0.5
"""Moments that are no farther apart are one run."""
_ROUNDING_S = 1e-9
_TOLERANCE = 0.2
"""Of the range of scores, and ..."""
_NOISE = 0.03
"""... at least so much: moments that are not farther below the best one are alike."""


class Recording:
    """The intervals of a trace as guest time to replay, in the newest interval's regions.

    `edges_s` are the ends of the intervals, of shape (n_intervals + 1,), from 0 on; time that
    nobody observed is left out. `alike_s` are the moments at which it looked most as it does at its
    end: where a migration that starts now may start. `period_s` is how far they are apart; None if
    that tells no period. After its end the recording goes on at `loop_s`, the first of them, so
    that a loop is long, and with a period at the best of the first ones, so that a sweep or a phase
    goes on as it would have.
    `dirty_pages` are those of each interval, of shape (n_intervals,), and `touched_pages` the
    distinct ones of all; `lost_pages` and `unseen_s` are known to be missing from it.

    Raises `UsageError` for no interval, for intervals that are not in the order of their times, or
    regions of unlike page sizes.
    """

    def __init__(self, intervals: Sequence[Interval]) -> None:
        if not intervals:
            raise UsageError("the trace has no interval; record for some seconds first")
        for before, after in itertools.pairwise(intervals):
            if after.start_ns < before.end_ns:
                raise UsageError(
                    f"interval {after.index} begins before interval {before.index} ends; give the "
                    f"intervals of one source in their order"
                )
        self.regions = intervals[-1].regions
        sizes = {region.page_bytes for region in self.regions}
        if len(sizes) > 1:
            raise UsageError(
                f"the regions have pages of {sorted(sizes)} bytes, and a migration has one size; "
                f"give the regions of each by themselves"
            )
        self.page_bytes = sizes.pop()
        self.n_pages = sum(region.n_pages for region in self.regions)
        durations = [interval.duration_s for interval in intervals]
        self.edges_s = np.concatenate(([0.0], np.cumsum(durations)))
        span_s = (intervals[-1].end_ns - intervals[0].start_ns) / 1e9
        self.unseen_s = span_s - float(self.edges_s[-1])
        self.lost_pages = sum(interval.lost_pages for interval in intervals)
        self._n_lossy = sum(interval.lost_pages > 0 for interval in intervals)
        self._longest_s, self._usual_s = max(durations), float(np.median(durations))
        self._words = [_placed(interval, self.regions) for interval in intervals]
        self.bitmaps = [self._lend(words) for words in self._words]
        self.ever = [
            functools.reduce(np.bitwise_or, column) for column in zip(*self._words, strict=True)
        ]
        volumes = self._volumes(self._words)
        self.dirty_pages = volumes.sum(axis=1)
        self.touched_pages = int(self._volumes([self.ever]).sum())
        runs = alike(self.edges_s, volumes)
        self.alike_s = np.concatenate([run.moments_s for run in runs] or [np.zeros(1)])
        self.period_s = _period_s(runs, self.duration_s)
        self.loop_s = float(self.alike_s[0]) if self.period_s is None else runs[0].best_s

    def _lend(self, words: list[Bitmap]) -> tuple[Any, list[Any]]:
        lent = [lend(one, region) for one, region in zip(words, self.regions, strict=True)]
        return ffi.new(_POINTERS, lent), lent

    def _volumes(self, bitmaps: list[list[Bitmap]]) -> npt.NDArray[np.float64]:
        """Set bits by interval and part of a region."""
        rows = [
            np.concatenate(
                [
                    group_counts(words, region.n_pages, _part_pages(region))
                    for words, region in zip(per_region, self.regions, strict=True)
                ]
            )
            for per_region in bitmaps
        ]
        return np.array(rows, np.float64)

    def __len__(self) -> int:
        return len(self.bitmaps)

    def faults(self) -> list[str]:
        """Sentences on what limits the trust in it."""
        found = []
        if self.observed.is_coarse:
            found.append(
                f"the trace has pages of {self.page_bytes >> 20} MiB, and QEMU sends only the "
                f"4 KiB of them that are written, so that less is written than is forecast"
            )
        if len(self) < _FEW:
            n = len(self)
            seen = f"{n} intervals were" if n > 1 else "1 interval was"
            found.append(f"only {seen} observed; observe for longer")
        if self.lost_pages:
            found.append(
                f"at least {self.lost_pages} pages are missing from the trace, so that more is "
                f"written than is forecast"
            )
        if self.unseen_s > _GAP * self.duration_s:
            found.append(
                f"{self.unseen_s:.1f} s between the intervals were not observed, and are left out"
            )
        if self._longest_s > _UNEVEN * self._usual_s:
            found.append(
                f"intervals take {self._usual_s:.2g} s, but one took {self._longest_s:.2g} s, and "
                f"when in it a page was written is not known"
            )
        return found

    @property
    def observed(self) -> Observed:
        """How much it is that was observed."""
        return Observed(
            durations_s=np.diff(self.edges_s),
            dirty_pages=self.dirty_pages,
            touched_pages=self.touched_pages,
            n_pages=self.n_pages,
            lost_pages=self.lost_pages,
            n_lossy=self._n_lossy,
            unseen_s=self.unseen_s,
            page_bytes=self.page_bytes,
        )

    @property
    def starts_s(self) -> list[float]:
        """Moments for a migration to start at: of those in `alike_s`, the ones after which at least
        half as much was recorded as after the first."""
        latest = (self.loop_s + self.duration_s) / 2
        return [float(start_s) for start_s in self.alike_s if start_s <= latest]

    @property
    def duration_s(self) -> float:
        return float(self.edges_s[-1])


class Alike(NamedTuple):
    """Moments next to each other at which a recording looked as it does at its end."""

    moments_s: npt.NDArray[np.float64]
    best_s: float
    """The one that is most alike."""


def _period_s(runs: list[Alike], duration_s: float) -> float | None:
    """The distance between runs, or of a single one to the end; None if they are everywhere."""
    bests_s = [run.best_s for run in runs]
    gaps = np.diff(bests_s if len(runs) > 1 else [*bests_s, duration_s])
    wide = max((float(np.ptp(run.moments_s)) for run in runs), default=0.0)
    if not runs or wide > gaps.min() / 2 or gaps.max() > 1.5 * gaps.min():
        return None
    return float(np.median(gaps))


def _part_pages(region: Region) -> int:
    return -(-region.n_pages // (_PARTS * 64)) * 64


def alike(edges_s: npt.NDArray[np.float64], volumes: npt.NDArray[np.float64]) -> list[Alike]:
    """Ends of the intervals before which the recording looked most as it does before its end.

    `volumes` are dirty pages by interval and part of memory. What lies just before a moment is
    compared on scales of time from a quarter of a second to a quarter of the recording, by how much
    was written and by where; two stretches a and b are alike by 2ab / (aa + bb), which is 1 only if
    they are the same. Neither the first nor the last quarter of the recording counts: the one has
    too little before it, the other would make a loop that repeats too soon. Returns the runs of
    these moments in their order, none if the recording is too short.
    """
    duration_s = edges_s[-1]
    first_s, last_s = duration_s / 4, duration_s * 3 / 4 + _ROUNDING_S
    possible = (edges_s >= first_s) & (edges_s <= last_s)
    if duration_s < 4 * _SHORT_S or not possible.any():
        return []
    by_place = np.concatenate((np.zeros((1, volumes.shape[1])), np.cumsum(volumes, axis=0)))
    score = np.zeros(len(edges_s))
    n_doublings = max(math.ceil(math.log2(duration_s / 4 / _SHORT_S)), 0)
    scales_s = (*(_SHORT_S * 2.0 ** np.arange(n_doublings)), duration_s / 4)
    for scale_s in scales_s:
        first = np.searchsorted(edges_s, edges_s - scale_s - _ROUNDING_S)
        for sums in (by_place, by_place.sum(axis=1, keepdims=True)):
            before = sums - sums[first]
            now = before[-1]
            size = np.einsum("ij,ij->i", before, before) + now @ now
            score += np.divide(2 * before @ now, size, out=np.ones(len(edges_s)), where=size > 0)
    score /= 2 * len(scales_s)
    best, worst = score[possible].max(), score[possible].min()
    chosen = np.flatnonzero(possible & (score >= best - max(_TOLERANCE * (best - worst), _NOISE)))
    runs = np.split(chosen, np.flatnonzero(np.diff(edges_s[chosen]) > _APART_S) + 1)
    return [Alike(edges_s[run], float(edges_s[run[score[run].argmax()]])) for run in runs]


def _placed(interval: Interval, regions: tuple[Region, ...]) -> list[Bitmap]:
    """The interval's bitmaps in these regions, which its own have grown to."""
    if interval.regions == regions:
        return [interval.bitmaps[region.name] for region in regions]
    words = []
    for region, (number, page) in zip(regions, origins(interval.regions, regions, 64), strict=True):
        grown = np.zeros(region.n_words, np.uint64)
        if number >= 0:
            old = interval.bitmaps[region.name]
            grown[page // 64 : page // 64 + old.size] = old
            n_past = -interval.regions[number].n_pages % 64  # bits that are no pages
            grown[page // 64 + old.size - 1] &= np.uint64((1 << 64 - n_past) - 1)
        words.append(grown)
    return words
