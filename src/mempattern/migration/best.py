"""Ours: downtime is spent only where it buys time, and only as much as buys it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from mempattern.interval import Interval, Provenance
from mempattern.migration.plan import Means, Plan, plan
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task
from mempattern.migration.recording import Recording
from mempattern.regions import Region

_LEAST_INTERVALS = 10
_LAST = Means.THROTTLE
_WATCHED = 400
"""Intervals that are kept for another plan."""
_LATE = 1.1
"""Times what a plan said it would take at most, and it is made anew."""
_POLLS = 10
"""Of the bandwidth, the least of which counts."""


class Best(Policy):
    """Plays the migration out before it begins, and follows the plan that this makes.

    What was observed before tells, or else what was watched during the first pass. A plan that does
    not come true is made anew, by the next means. While the limit is above QEMU's own it does not
    wait for a pass to end: it stops the guest as soon as what is pending, with all that was written
    since, is little enough.
    """

    poll_s = 0.1

    def begin(self, task: Task) -> Action:
        self._task = task
        self._plan: Plan | None = None
        self._until_s = 0.0
        self._watched = _Watched()
        self._Bps: deque[float] = deque(maxlen=_POLLS)
        self._written = _Written()
        observed = task.observed()
        if observed is None or len(observed) < _LEAST_INTERVALS:
            return NOTHING
        return self._follow(plan(observed, task), 0.0, throttles=False)

    def watch(self, interval: Interval) -> None:
        kept = _Kept.of(interval)
        self._watched.add(kept)
        self._written.add(kept)

    def after(self, done: Pass) -> Action:
        self._written.clear()
        if self._plan is not None and done.at_s <= self._until_s:
            return Action(throttle=self._plan.throttle)
        if len(self._watched) < _LEAST_INTERVALS:
            return NOTHING
        means = Means.LIMIT if self._plan is None else Means(min(self._plan.means + 1, _LAST))
        watched = Recording(self._watched)
        return self._follow(plan(watched, self._task, means), done.at_s, throttles=True)

    def poll(self, now: Progress) -> Action:
        self._Bps.append(now.bandwidth_Bps)
        if self._plan is None or self._plan.means is Means.LIMIT or not min(self._Bps):
            return NOTHING
        most_pages = now.pending_pages + self._written.most_pages
        most_s = most_pages * now.page_bytes / min(self._Bps)
        return Action(stop=True) if most_s <= self._plan.limit_s else NOTHING

    def _follow(self, plan: Plan, now_s: float, *, throttles: bool) -> Action:
        """During the first pass it does not throttle: all is to be sent whatever is written."""
        self._plan, self._until_s = plan, now_s + plan.within_s * _LATE
        return Action(plan.limit_s, plan.throttle if throttles else None)


class _Watched:
    """The last intervals. Only their words that are not empty are kept: most of a VM is clean."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque(maxlen=_WATCHED)

    def add(self, kept: _Kept) -> None:
        self._kept.append(kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Interval:
        return self._kept[index].interval()

    def __iter__(self) -> Iterator[Interval]:
        return (kept.interval() for kept in self._kept)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    index: int
    start_ns: int
    end_ns: int
    regions: tuple[Region, ...]
    words: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]]
    """Of each region, where they are and what they are."""
    provenance: Provenance
    lost_pages: int

    @classmethod
    def of(cls, interval: Interval) -> Self:
        words = []
        for region in interval.regions:
            bitmap = interval.bitmaps[region.name]
            places = np.flatnonzero(bitmap)
            words.append((places, bitmap[places]))
        return cls(
            interval.index, interval.start_ns, interval.end_ns, interval.regions, words,
            interval.provenance, interval.lost_pages,
        )  # fmt: skip

    def interval(self) -> Interval:
        bitmaps = {region.name: np.zeros(region.n_words, np.uint64) for region in self.regions}
        for region, (places, words) in zip(self.regions, self.words, strict=True):
            bitmaps[region.name][places] = words
        return Interval(self.index, self.start_ns, self.end_ns, self.regions, bitmaps,
                        self.provenance, self.lost_pages)  # fmt: skip


class _Written:
    """The pages written since a sync, as far as they were watched."""

    def __init__(self) -> None:
        self._bitmaps: dict[str, npt.NDArray[np.uint64]] = {}
        self._pages = self._last_pages = 0

    def clear(self) -> None:
        self._bitmaps.clear()
        self._pages = 0

    def add(self, kept: _Kept) -> None:
        self._last_pages = 0
        for region, (places, words) in zip(kept.regions, kept.words, strict=True):
            if region.name not in self._bitmaps:
                self._bitmaps[region.name] = np.zeros(region.n_words, np.uint64)
            known = self._bitmaps[region.name]
            self._pages += _count(words & ~known[places])
            self._last_pages += _count(words)
            known[places] |= words

    @property
    def most_pages(self) -> int:
        """With as many in the interval that is not over as in the last one."""
        return self._pages + self._last_pages


def _count(words: npt.NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(words).sum())
