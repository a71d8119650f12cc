"""Stock QEMU's pre-copy replayed over recorded intervals: more migrations than could be run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from mempattern import Interval

PAGE_BYTES, HEADER_BYTES = 4096, 8
PATIENCE_S = 60.0
"""After the first pass. What has not completed then does not."""
MOST_PASSES = 200


@dataclass(frozen=True)
class Migration:
    """The intervals that each pass was made of, without the last one, with the guest stopped."""

    completed: bool
    passes: list[list[Interval]]


class Replay:
    """A recording that begins anew where it ends."""

    def __init__(self, intervals: list[Interval], nonzero_pages: int) -> None:
        self.intervals = intervals
        self.nonzero_pages = nonzero_pages
        self.dirtied = [pages(interval) for interval in intervals]

    def __iter__(self) -> Iterator[tuple[Interval, np.ndarray]]:
        """Intervals, each of which begins where the one before ended, and their dirty pages."""
        now = self.intervals[0].start_ns
        for interval, dirtied in cycle(zip(self.intervals, self.dirtied, strict=True)):
            end = now + interval.end_ns - interval.start_ns
            yield replace(interval, start_ns=now, end_ns=end), dirtied
            now = end

    def migrate(self, bandwidth_Bps: float, limit_s: float) -> Migration:
        """Send page after page in the order of addresses, from where the last one was; look at what
        remains after each interval; synchronise once that is below the limit, and stop if it still
        is.

        The first pass sends all memory, of which pages of zeros cost nothing.
        """
        page_rate = bandwidth_Bps / (PAGE_BYTES + HEADER_BYTES)
        limit_pages = bandwidth_Bps * limit_s / PAGE_BYTES
        waiting = np.zeros(sum(region.n_pages for region in self.intervals[0].regions), bool)
        dirty = np.zeros_like(waiting)
        remaining, position, may_send, passed_s = float(self.nonzero_pages), 0, 0.0, 0.0
        passes: list[list[Interval]] = [[]]
        for interval, dirtied in self:
            dirty[dirtied] = True
            passes[-1].append(interval)
            may_send += page_rate * interval.duration_s
            sent = int(may_send)
            may_send -= sent
            remaining -= sent
            if len(passes) > 1:
                passed_s += interval.duration_s
                order = np.flatnonzero(waiting)
                first = int(np.searchsorted(order, position))
                now = np.concatenate([order[first:], order[:first]])[:sent]
                waiting[now] = False
                position = int(now[-1]) + 1 if now.size else position
            if remaining >= limit_pages:
                continue
            waiting |= dirty
            dirty[:] = False
            remaining = float(np.count_nonzero(waiting))
            if remaining < limit_pages:
                return Migration(True, passes)
            if passed_s > PATIENCE_S or len(passes) > MOST_PASSES:
                return Migration(False, passes)
            passes.append([])
        raise AssertionError("the intervals have no end")


def pages(interval: Interval) -> np.ndarray:
    """Of all regions one after the other."""
    found, first = [], 0
    for region in interval.regions:
        found.append(first + interval.pages(region.name))
        first += region.n_pages
    return np.concatenate(found)
