"""Ours: downtime is spent only where it buys time, and only as much as buys it."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from mempattern.interval import Interval
from mempattern.migration.plan import WORTH, Means, Plan, plan
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task
from mempattern.migration.recording import Recording
from mempattern.stats import group_counts

_LEAST_INTERVALS = 10
_LAST = Means.THROTTLE
_WATCHED = 400
"""Intervals that are kept for another plan."""
_LATE = 1.1
"""Times what a plan said it would take at most, and it is made anew."""
_WORTH_S = 0.01
"""No downtime is worth shortening below it."""
_SPARE = 1.5
"""Times what was written lately, for what may be written in the pass to come."""
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
        self._intervals: deque[Interval] = deque(maxlen=_WATCHED)
        self._Bps: deque[float] = deque(maxlen=_POLLS)
        self._written = _Written()
        observed = task.observed()
        if observed is None or len(observed) < _LEAST_INTERVALS:
            return NOTHING
        return self._follow(plan(observed, task), 0.0, throttles=False)

    def watch(self, interval: Interval) -> None:
        self._intervals.append(interval)
        self._written.add(interval)

    def after(self, done: Pass) -> Action:
        self._written.clear()
        if self._plan is not None and done.at_s <= self._until_s:
            return Action(self._lower_limit_s(done) or self._plan.limit_s, self._plan.throttle)
        if len(self._intervals) < _LEAST_INTERVALS:
            return NOTHING
        means = Means.LIMIT if self._plan is None else Means(min(self._plan.means + 1, _LAST))
        watched = Recording(list(self._intervals))
        return self._follow(plan(watched, self._task, means), done.at_s, throttles=True)

    def poll(self, now: Progress) -> Action:
        self._Bps.append(now.bandwidth_Bps)
        if self._plan is None or self._plan.means is Means.LIMIT or not min(self._Bps):
            return NOTHING
        most_pages = now.pending_pages + self._written.most_pages
        most_s = most_pages * now.page_bytes / min(self._Bps)
        return Action(stop=True) if most_s <= self._plan.limit_s else NOTHING

    def _lower_limit_s(self, done: Pass) -> float | None:
        """Where QEMU would stop the guest now, and one more pass is hardly longer but leaves less
        than half as much: the limit that lets it do so."""
        assert self._plan is not None
        pending_s = done.pending_bytes / (done.bandwidth_Bps or math.inf)
        if self._plan.means is not Means.LIMIT or not _WORTH_S < pending_s <= self._plan.limit_s:
            return None
        lately = _Written()
        for interval in reversed(self._intervals):
            lately.add(interval)
            if self._intervals[-1].end_ns - interval.start_ns > pending_s * 1e9:
                break
        else:
            return None
        again_s = lately.pages * done.page_bytes / done.bandwidth_Bps
        if again_s > min(WORTH * done.at_s, pending_s / 2):
            return None
        return max(_SPARE * again_s, _WORTH_S)

    def _follow(self, plan: Plan, now_s: float, *, throttles: bool) -> Action:
        """During the first pass it does not throttle: all is to be sent whatever is written."""
        self._plan, self._until_s = plan, now_s + plan.within_s * _LATE
        return Action(plan.limit_s, plan.throttle if throttles else None)


class _Written:
    """The pages written since a sync, as far as they were watched."""

    def __init__(self) -> None:
        self._bitmaps: dict[str, npt.NDArray[np.uint64]] = {}
        self._last_pages = 0

    def clear(self) -> None:
        self._bitmaps.clear()

    def add(self, interval: Interval) -> None:
        self._last_pages = 0
        for region in interval.regions:
            words = interval.bitmaps[region.name]
            self._last_pages += int(group_counts(words, region.n_pages).sum())
            if region.name in self._bitmaps:
                self._bitmaps[region.name] |= words
            else:
                self._bitmaps[region.name] = words.copy()

    @property
    def pages(self) -> int:
        return sum(int(group_counts(words, words.size * 64).sum())
                   for words in self._bitmaps.values())  # fmt: skip

    @property
    def most_pages(self) -> int:
        """With as many in the interval that is not over as in the last one."""
        return self.pages + self._last_pages
