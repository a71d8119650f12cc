"""MP (Memory Pattern): is this VM memory intensive, so that stock pre-copy does not end?

After Chao Wei, "Optimizing Reliability and Efficiency of Live Migration Mechanism for Kernel
Virtual Machine", NCU 2018: watch the memory groups in each iteration of pre-copy, and decide from
them. Only its abstract is public. The rule here is a reconstruction; docs/classify.md reasons it.
"""

from __future__ import annotations

import math
from typing import SupportsIndex

from mempattern._checks import number_within, whole_number
from mempattern.classify.passes import StockRule
from mempattern.classify.prospect import Prospect
from mempattern.classify.verdict import Verdict
from mempattern.classify.volumes import ShortIntervals, Volume
from mempattern.errors import UsageError
from mempattern.interval import Interval
from mempattern.stats import GroupStats

_SECONDS = (1e-9, 1e9, "seconds")
_GAP = 0.1
"""Of an iteration's length: what may pass unseen between it and the one before."""


class MP:
    """Says after each iteration of a pre-copy migration whether the VM is memory intensive.

    An iteration is an interval whose edges are passes: it holds the pages written during a pass, as
    the bitmap sync at its end finds them.

        stats.update(iteration)
        verdict = mp.observe(stats, iteration)

    Who sees shorter intervals, within the passes or before the migration, tells `watch` how much
    was written in them. D(t) is then known at short windows, not inferred, and troughs show.

    `bandwidth_Bps` is what the migration may send, in bytes/s, and `downtime_limit_s` is QEMU's
    downtime-limit. docs/classify.md has the reasons for the defaults of the others:

    `shortest_pass_s`: how often QEMU looks at what remains (migration/ram.c, MAX_WAIT).
    `evenness`: of `Curve`, where shorter windows must be inferred.
    `tolerance`: relative error of the bandwidth and of volumes, one standard deviation.
    `trough_tolerance`: by what factor the depth that a trough needs may be off, likewise; above 1.
    `half_life_s`: after which what `watch` was told counts half.
    `certainty`: the confidence from which a verdict is given at once, 0.5 to 1.
    `patience`: the iteration from which on the likelier answer is given, however sure.

    One thread at a time. Raises `UsageError` for a number that is out of its range.
    """

    def __init__(
        self,
        bandwidth_Bps: float,
        downtime_limit_s: float = 0.3,
        *,
        shortest_pass_s: float = 0.05,
        evenness: float = 0.25,
        tolerance: float = 0.1,
        trough_tolerance: float = 4.0,
        half_life_s: float = 10.0,
        certainty: float = 0.9,
        patience: SupportsIndex = 3,
    ) -> None:
        self._stock = stock = StockRule(
            number_within("bandwidth_Bps", bandwidth_Bps, 1, 1e15, "bytes/s"),
            number_within("downtime_limit_s", downtime_limit_s, *_SECONDS),
            number_within("shortest_pass_s", shortest_pass_s, *_SECONDS),
        )
        self._evenness = number_within("evenness", evenness, 0.05, 100)
        self._tolerance = number_within("tolerance", tolerance, 0.001, 1)
        self._trough_tolerance = number_within("trough_tolerance", trough_tolerance, 1.01, 100)
        self._short = ShortIntervals(
            stock.page_Bps, number_within("half_life_s", half_life_s, *_SECONDS)
        )
        self._certainty = number_within("certainty", certainty, 0.5, 1)
        n_iterations = whole_number(patience, 1, 1 << 31)
        if n_iterations is None:
            raise UsageError(f"patience must be a whole number of iterations, not {patience!r}")
        self._patience = n_iterations
        self._n_iterations = 0
        self._n_intervals = 0  # of the statistics, when they were last looked at
        self._end_ns: int | None = None
        self._before: Volume | None = None

    def watch(self, duration_s: float, dirty_bytes: SupportsIndex) -> None:
        """Tell of one of the shorter intervals, which follow each other: its length in seconds, and
        the bytes of the pages dirty in it. Raises `UsageError`.
        """
        duration_s = number_within("duration_s", duration_s, *_SECONDS)
        n_bytes = whole_number(dirty_bytes, 0, 1 << 63)
        if n_bytes is None:
            raise UsageError(f"dirty_bytes must be a whole number of bytes, not {dirty_bytes!r}")
        self._short.add(duration_s, n_bytes)

    def observe(self, stats: GroupStats, iteration: Interval | float) -> Verdict:
        """The verdict after an iteration, which the statistics have been updated with.

        `iteration` is that interval, or its length in seconds. One that has lost pages is not
        judged, and the verdict says so. One that does not begin where the iteration before ended,
        or after updates that were not observed, is judged like a first one. The statistics are
        read in place, and nothing is kept of them but sums.

        Raises `UsageError` for a length that is not positive and finite, and for statistics that
        were not updated since the last call.
        """
        if not isinstance(stats, GroupStats):
            raise UsageError(f"stats must be a GroupStats, not {type(stats).__name__}")
        if stats.n_intervals in (0, self._n_intervals):
            raise UsageError("update the statistics with the iteration first, and then observe it")
        interval = iteration if isinstance(iteration, Interval) else None
        seconds = iteration if interval is None else interval.duration_s
        last = Volume.of(stats, number_within("the iteration's length", seconds, *_SECONDS))
        before = self._before if self._follows(stats, interval) else None
        lost_pages = 0 if interval is None else interval.lost_pages
        self._n_iterations += 1
        self._n_intervals = stats.n_intervals
        self._end_ns = None if interval is None else interval.end_ns
        self._before = None if lost_pages else last
        return self._judge(last, before, lost_pages)

    def _follows(self, stats: GroupStats, interval: Interval | None) -> bool:
        if stats.n_intervals != self._n_intervals + 1:
            return False
        if interval is None or self._end_ns is None:
            return True
        unseen_s = abs(interval.start_ns - self._end_ns) / 1e9
        return unseen_s <= _GAP * interval.duration_s

    def _judge(self, last: Volume, before: Volume | None, lost_pages: int) -> Verdict:
        stock, short = self._stock, self._short
        prospect = Prospect.of(stock, last, before, short.points(), self._evenness)
        projection = prospect.projection
        probability = 0.5
        if not lost_pages:
            probability = prospect.intensive(
                stock, self._tolerance, short.deepest_bytes, self._trough_tolerance
            )
        sure = max(probability, 1 - probability) >= self._certainty
        known = probability != 0.5 and (sure or self._n_iterations >= self._patience)
        return Verdict(
            iteration=self._n_iterations,
            memory_intensive=probability > 0.5 if known else None,
            probability=probability,
            duration_s=last.duration_s,
            active_groups=last.active_groups,
            stability=None if before is None else last.stability(before),
            dirty_bytes=last.dirty_bytes,
            redirtied_share=None if before is None else last.redirtied_share,
            volume_ratio=None if before is None else last.ratio(before),
            remaining_bytes=prospect.remaining_bytes,
            limit_bytes=stock.limit_bytes,
            bandwidth_Bps=stock.bandwidth_Bps,
            required_Bps=prospect.required_Bps,
            required_factor=None if prospect.required_Bps is None else math.exp(prospect.error),
            projected_passes=None if projection is None else projection.passes,
            projected_bytes=None if projection is None else projection.remaining_bytes,
            trough_bytes=short.deepest_bytes,
            lost_pages=lost_pages,
        )
